"""File systems with the data of a database server that was killed in the middle of its work."""

import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

from mariadbserver import MariaDB

ROWS = 200
BLOCK = 4096  # bytes of a file system's block
EVENT = "CREATE EVENT shop.tick ON SCHEDULE EVERY 1 SECOND DO INSERT INTO shop.orders (x) VALUES ('tick')"
POSTGRES = next(iter(sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


def image(path, size="256M"):
    """Return what makes an ext4 image of a folder and what is in it."""
    return lambda folder: _image(folder, path, size)


def _image(folder, path, size):
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-b", str(BLOCK), "-d", folder, path, size], check=True, capture_output=True)


def copy(path):
    """Return what copies a folder, with the owners of all in it."""
    return lambda folder: subprocess.run(["cp", "-a", folder, path], check=True)


def mariadb(keep):
    """Call `keep` with a folder that has data in the folder mysql."""
    server = MariaDB("--innodb-log-file-size=8M")
    try:
        server.do("CREATE DATABASE shop")
        server.do("CREATE TABLE shop.orders (id INT PRIMARY KEY AUTO_INCREMENT, x VARCHAR(2000), t DATETIME DEFAULT NOW()) ENGINE=InnoDB")
        server.do(EVENT)
        row = "INSERT INTO shop.orders (x) VALUES (REPEAT('x', 1500))"
        for _ in range(ROWS - 20):
            server.do(row)
        server.do("SHUTDOWN")  # so that all pages are in their files
        server._process.wait()
        server.start()
        for _ in range(20):
            server.do(row)
        server._process.send_signal(signal.SIGKILL)
        server._process.wait()
        _owned_alone(server.datadir)
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["cp", "-a", server.datadir, f"{folder}/mysql"], check=True)
            keep(folder)
    finally:
        server.stop()


def _owned_alone(folder):
    """Give a folder the group of its files, as packages make it."""
    if os.geteuid() == 0:
        shutil.chown(folder, group=os.stat(f"{folder}/ibdata1").st_gid)


def postgresql(keep):
    """Call `keep` with a folder that has data in the folder data; a transaction is prepared in them."""
    root = os.geteuid() == 0
    # its own IPC name space: a server that is killed leaves a segment of shared memory
    alone = ["unshare", "--ipc", "setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if root else []
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        if root:
            shutil.chown(folder, "postgres")

        def run(*words, stdin=None):
            done = subprocess.run([*alone, *words], cwd=folder, input=stdin, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr

        inside = pathlib.Path(folder, "fs")
        run("mkdir", str(inside))
        run(f"{POSTGRES}/initdb", "-D", f"{inside}/data", "-A", "trust", "-U", "postgres", "-N")
        options = f"-k {folder} -c listen_addresses= -c max_prepared_transactions=5 -c max_connections=250 -c dynamic_shared_memory_type=mmap -F"
        run(f"{POSTGRES}/pg_ctl", "-D", f"{inside}/data", "-l", f"{folder}/log", "-o", options, "-w", "start")
        run(
            f"{POSTGRES}/psql", "-h", folder, "-U", "postgres", "-v", "ON_ERROR_STOP=1", stdin=f"""
            CREATE TABLE orders (id serial PRIMARY KEY, x text);
            INSERT INTO orders (x) SELECT repeat('x', 1000) FROM generate_series(1, {ROWS} - 20);
            CHECKPOINT;
            INSERT INTO orders (x) SELECT repeat('x', 1000) FROM generate_series(1, 20);
            BEGIN; INSERT INTO orders (x) VALUES ('prepared'); PREPARE TRANSACTION 'p';
            """
        )  # fmt: skip
        first = int((inside / "data/postmaster.pid").read_text().split()[0])
        os.kill(first, signal.SIGKILL)
        while os.path.exists(f"/proc/{first}"):
            pass
        keep(inside)


def edit(image, *requests):
    """Change a file system with debugfs: "rm /x", "write FILE /x"."""
    for request in requests:
        subprocess.run(["debugfs", "-w", "-R", request, image], check=True, capture_output=True)


def damage(image, path, places, byte=b"\0"):
    """Write other bytes over blocks of a file in an image."""
    shown = subprocess.run(["debugfs", "-R", f"blocks {path}", image], check=True, capture_output=True, text=True)
    blocks = [int(word) for word in shown.stdout.split()]
    with open(image, "r+b") as file:
        for place in places:
            file.seek(blocks[place] * BLOCK)
            file.write(byte * BLOCK)
