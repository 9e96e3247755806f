"""A set in an object store, a real one on the loopback: copies and restores against rclone's, and requests.

The store has all in memory: the volume has at most a twelfth of this machine's, whatever is asked for.
"""

import os
import pathlib
import shutil
import statistics
import subprocess
import sys

from . import measure, volume
from .tools import ROOT, Ours

_TURNS = 3
_KEPT = 6  # times the volume that the store has room for: of what is removed it frees the memory late


def run(folder: pathlib.Path, size: int) -> dict[str, dict]:
    """Print the figures as they are measured; returns them.  Each is the median of several turns, done in turns."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    size = min(size, (memory // (2 * _KEPT)) >> 20 << 20)
    sys.path.append(str(ROOT / "tests" / "support"))
    import cuts
    import objectstores

    os.environ.pop("AWS_CA_BUNDLE", None)  # rclone takes none
    os.environ["OBJECTSTORE_SIZE"] = str(_KEPT * size)
    engine = objectstores.start(folder / "engine", os.getpid())
    way = cuts.Cuts(engine.endpoint)
    path = folder / "volume"
    volume.make(path, size)
    tool = Ours(folder, path, None)
    tool.back_up()
    name, out = tool.folder / "set", folder / "out"
    subprocess.run(["age-keygen", "-o", folder / "key"], check=True, capture_output=True)
    public = subprocess.run(["age-keygen", "-y", folder / "key"], check=True, capture_output=True, text=True).stdout.strip()
    remote = ":s3,provider=Ceph,env_auth=true,endpoint=" + f"'{engine.endpoint}':"
    state = {**engine.environment, "XDG_STATE_HOME": str(folder / "state")}
    copy, merge, backup = (tool.command(f"blockdiff-{each}") for each in ("copy", "merge", "backup"))
    figures: dict[str, list[dict]] = {}

    def timed(what, *words, **environment):
        figures.setdefault(what, []).append(measure.run(words, environment={**state, **environment}))

    for _ in range(_TURNS):
        there, rclone, sealed, straight = (engine.make_bucket() for _ in range(4))
        timed("rclone's put", "rclone", "copy", "--include", "set.*", tool.folder, f"{remote}{rclone}")
        timed("copy into the store", *copy, "-q", name, f"s3://{there}/set")
        timed("the same, sealed", *copy, "-q", "--recipient", public, name, f"s3://{sealed}/set")
        timed("backup straight into it", *backup, "-q", f"s3://{straight}/set", path)
        timed("rclone's get", "rclone", "copy", f"{remote}{rclone}", folder / "got")
        shutil.rmtree(folder / "got")
        timed("restore from the store", *merge, "-q", f"s3://{there}/set", out)
        out.unlink()
        timed("restore, sealed", *merge, "-q", "--identity", folder / "key", f"s3://{sealed}/set", out)
        out.unlink()
        timed("restore from a folder", *merge, "-q", name, out)
        out.unlink()
        for bucket in (rclone, sealed):
            _empty(engine, bucket)
    volume.change(path, 1)
    requests = {}
    for what, words in (
        ("increment straight into it", [*backup, "-q", f"s3://{straight}/set", path]),
        ("increment into a folder", [*backup, "-q", name, path]),
        ("copy of the increment", [*copy, "-q", name, f"s3://{there}/set"]),
    ):
        way.reset()
        timed(what, *words, AWS_ENDPOINT_URL=way.url)
        requests[what] = sum(way.kinds().values())
    way.close()
    found = {
        what: {key: statistics.median(each[key] for each in rows) for key in ("wall", "cpu", "memory")}
        for what, rows in figures.items()
    }
    print(f"\na full version of {size >> 20} MiB, and an increment of 1 %")
    for what, each in found.items():
        base = {"put": "rclone's put", "get": "rclone's get"}["get" if "rest" in what or "get" in what else "put"]
        ratio = f"{found[base]['wall'] / each['wall']:8.2f}x {base}" if "increment" not in what else ""
        count = f"{requests[what]:6} requests" if requests.get(what) else ""
        print(f"{what:28}{each['wall']:8.2f} s{each['cpu']:8.2f} cpu s{each['memory'] >> 20:6} MiB{ratio}{count}")
    found["requests"] = requests
    return found


def _empty(engine, bucket):
    for each in engine.client.list_objects_v2(Bucket=bucket).get("Contents", []):
        engine.client.delete_object(Bucket=bucket, Key=each["Key"])
