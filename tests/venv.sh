#!/bin/sh
# Make the virtual environment FOLDER with this checkout in it, in place, and what tests and lint need.
# Usage: tests/venv.sh FOLDER      PYTHON=... chooses the interpreter; it must be 3.11 or newer
set -eu
cd "$(dirname "$0")/.."
venv=$1

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

python=
for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    if new_enough "$candidate"; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "blockdiff needs Python 3.11 or newer; tried: ${PYTHON:-python3, python3.14, ..., python3.11}" >&2
    exit 1
fi

rm -rf "$venv"
# Debian keeps what venv needs in a package of its own
if ! "$python" -c 'import ensurepip' 2>/dev/null && ! "$python" -m pip --version >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        tests/packages.sh python3-venv
    else
        echo "$python can make no virtual environment; on Debian: apt-get install python3-venv" >&2
        exit 1
    fi
fi
echo "making $venv with $("$python" --version)"
if "$python" -c 'import ensurepip' 2>/dev/null; then
    "$python" -m venv "$venv"
    pip="$venv/bin/python -m pip"
else # pip is there, but only outside
    "$python" -m venv --without-pip "$venv"
    pip="$python -m pip --python $venv/bin/python"
fi
$pip install --quiet --disable-pip-version-check --editable '.[test,lint]'
pwd >"$venv/ready"
