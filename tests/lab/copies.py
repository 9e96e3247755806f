"""A version that was copied back into the guest."""

import contextlib

from .runs import run

MOUNTED = "/mnt/restored"


@contextlib.contextmanager
def mounted(guest, name, number):
    """Restore a version into a new volume of the guest, and have its file system mounted."""
    image = guest.folder / "restored.img"
    run(guest, "blockdiff-merge", "--to", str(number), name, image)
    try:
        guest.run(
            f"lvcreate -qq -y -Zn -Wn -L {image.stat().st_size}b -n restored vg0 && "
            f"dd if=/run/lab/{image.name} of=/dev/vg0/restored bs=1M oflag=direct status=none && "
            f"mkdir -p {MOUNTED} && mount /dev/vg0/restored {MOUNTED}"
        )
        yield
    finally:
        image.unlink()
        # a server that a failing test left running keeps it busy
        guest.run(
            f"umount {MOUNTED} 2>/dev/null || {{ for p in /proc/[0-9]*; do"
            f" ls -l $p/cwd $p/fd 2>/dev/null | grep -q ' {MOUNTED}' && kill -KILL ${{p#/proc/}}; done;"
            f" sleep 1; umount {MOUNTED}; }}; lvremove -qq -y vg0/restored",
            check=False,
        )
