"""A machine for the examples of man/examples: what is written to its folders goes to memory, and away with it."""

import os
import subprocess

import pytest
from launched import lacking, needs
from places import ROOT

EXAMPLES = ROOT / "man" / "examples"
SBIN = "/usr/sbin:/usr/bin:/sbin:/bin"

def call(*words, code=0, **options):
    """Return what a program prints, to both streams."""
    done = subprocess.run([*map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    assert done.returncode == code, f"{words}\n{done.stdout}"
    return done.stdout


def covered(*folders):
    """Shell lines after which what is written to these folders is in memory, and gone with the last process.

    $1 is a folder of the test's own.
    """
    return f"""
over=$1/over
mkdir "$over"
mount -t tmpfs none "$over"
for folder in {" ".join(folders)}; do
    mkdir "$over$folder" "$over$folder.work"
    mount -t overlay -o "lowerdir=$folder,upperdir=$over$folder,workdir=$over$folder.work" none "$folder"
done
"""


SETUP = "set -eu\n" + covered("/etc", "/opt", "/root", "/run", "/srv", "/var") + r"""
ip link set lo up
mkdir -p /opt/blockdiff /var/lib/prometheus/node-exporter /root/.local/state
rm -rf /opt/blockdiff/bin
ln -s "$2/bin" /opt/blockdiff/bin
mkdir -p -m 700 /var/backup
cp "$1/disk.img" /srv/disk.img
echo "/var/backup/größe /srv/disk.img" >/etc/backups.list
echo ready
exec sleep infinity
"""


class Machine:
    """A name space of mounts and one of networks, with a backup server's folders."""

    def __init__(self, folder, pid):
        self.folder, self.pid = folder, pid

    def words(self, *words, user="root"):
        """Return what runs words there as cron, NRPE or systemd would: with no environment, or nearly none."""
        ids = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user != "root" else []
        return ["nsenter", "-t", str(self.pid), "-m", "-n", *ids, "env", "-i", f"PATH={SBIN}", *map(str, words)]

    def run(self, *words, code=0, user="root"):
        return call(*self.words(*words, user=user), code=code, cwd="/")

    def line(self, line, **more):
        return self.run("sh", "-c", line, **more)


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """A Machine on which the list names one set, which was not backed up yet."""
    if os.geteuid() != 0:
        lacking("a machine of its own takes root")
    needs("unshare", "nsenter", "setpriv", "ip")
    folder = tmp_path_factory.mktemp("machine")
    (folder / "disk.img").write_bytes(os.urandom(100_000))
    words = ["unshare", "--mount", "--net", "sh", "-c", SETUP, "sh", folder, ROOT]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield Machine(folder, process.pid)
        finally:
            process.kill()
