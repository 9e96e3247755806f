#!/bin/sh
# What blockdiff does, shown on real files of this machine: the library of its Python, in a real file
# system where mke2fs is installed, else in a tar archive.  No root, no network; all in one temporary
# folder, which goes away at the end (KEEP=1 leaves it).  Usage: tests/demo.sh, or `make demo`
set -eu
checkout=$(cd "$(dirname "$0")/.." && pwd)
PATH=$checkout/bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin
python=$checkout/.venv/bin/python
[ -x "$python" ] || python=python3
unset BLOCKSIZE SSH_BLOCKDIFF_PREFIX BLOCKDIFF_RSH VERBOSE

demo=$(mktemp -d "${TMPDIR:-/tmp}/blockdiff-demo.XXXXXX")
if [ -z "${KEEP:-}" ]; then
    trap 'rm -rf "$demo"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
fi
cd "$demo"

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then bold=$(printf '\033[1m') plain=$(printf '\033[0m'); else bold='' plain=''; fi
say() { printf '\n%s\n' "$*"; }
run() {
    printf '%s    $ %s%s\n' "$bold" "$*" "$plain"
    "$@" >output 2>&1 && code=0 || code=$?
    sed 's/^/      /' output
    [ "$code" = 0 ] || { echo "      exit code $code: this should not have happened"; exit "$code"; }
}
same() {
    run cmp "$1" "$2"
    echo "      no difference"
}
size() { echo "$(($(cat "$@" | wc -c) / 1024)) KiB"; }

# a volume, and a way to change three files in it
library=$("$python" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
mkdir library
(cd "$library" && find . -name '*.py' ! -path '*/site-packages/*' ! -path '*/test*' -print |
    tar cf - -T -) | tar xf - -C library
count=$(find library -type f | wc -l)
if command -v mke2fs >/dev/null && command -v debugfs >/dev/null; then
    mke2fs -q -t ext4 -d library disk.img 64M >/dev/null
    what="an ext4 file system of 64 MiB"
    change() {
        (cd library && ls ./*.py) | sed -n '1s/^/rm /p; 2s/^\(.*\)/sif \1 mtime 20380119031407/p' >commands
        echo "write $checkout/Makefile Makefile" >>commands
        debugfs -w -f commands disk.img >/dev/null 2>&1
    }
    changes="debugfs adds a file, removes one and touches a third"
    look() { run e2fsck -fn "$1"; }
else
    tar cf disk.img -C library .
    what="a tar archive (mke2fs is not installed)"
    change() {
        printf 'changed' | dd of=disk.img bs=1 seek=1000000 conv=notrunc 2>/dev/null
        tar rf disk.img -C "$checkout" Makefile
    }
    changes="a few bytes in the middle, and a file at the end"
    look() { :; }
fi
mkdir backups

say "The volume: $what with $count real files from $library.
On a server it would be a logical volume, /dev/vg/data, and the source would be read with
blockdiff-backup backups/disk root@server:/dev/vg/data; the rest would be the same."
run ls -sh disk.img

say "1. Monday: the first version is a full one. Every block is digested, compressed and stored."
run blockdiff-backup backups/disk disk.img
cp disk.img monday.img

say "2. Tuesday: $changes. The next version holds what changed, and nothing else."
change
run blockdiff-backup backups/disk disk.img
cp disk.img tuesday.img
echo "      stored on Monday $(size backups/disk.1.gz), on Tuesday $(size backups/disk.2.gz)"

say "3. What is there:"
run blockdiff-list backups/disk
run ls backups

say "4. Proof, without restoring: every byte that a restore would need is read, every block's MD5 compared."
run blockdiff-verify backups/disk

say "5. Both days come back, to the byte; what was zero is a hole again."
run blockdiff-merge backups/disk restored-tuesday.img
same restored-tuesday.img tuesday.img
run blockdiff-merge backups/disk restored-monday.img --to 1
same restored-monday.img monday.img
look restored-monday.img
run du -h --apparent-size restored-monday.img restored-tuesday.img
run du -h restored-monday.img restored-tuesday.img

say "6. And a backup that went bad says so before it is needed: one byte of Tuesday's, flipped."
"$python" - backups/disk.2.gz <<'END'
import sys
with open(sys.argv[1], "r+b") as file:
    file.seek(-100, 2)
    byte = file.read(1)[0]
    file.seek(-100, 2)
    file.write(bytes([byte ^ 1]))
END
printf '%s    $ blockdiff-verify backups/disk%s\n' "$bold" "$plain"
if blockdiff-verify backups/disk >output 2>&1; then
    sed 's/^/      /' output
    echo "      this should not have happened"
    exit 1
else
    echo "(exit code $?)" >>output
    sed 's/^/      /' output
fi
say "Monday still restores. That was all: README.md has the first cron line."
