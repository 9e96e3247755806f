"""A database's busy client, run outside the guest: one connection, autocommitted statements, one after the other.

Raises the counters in `counters` in that order, then changes a row of each table that is named
`rows_` and the counter's name, and begins anew; until SIGTERM. Then says how many rounds that
were, and how long the longest statement took: whoever is stalled sees it there.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

ROWS = 500  # in each table of rows
PAUSE_S = 0.02  # after each round: the guest has one processor, and all that is written is replayed later


def main(host, *counters):
    import pymysql

    told = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(True))
    connection = pymysql.connect(host=host, user="root", database="d", autocommit=True, read_timeout=60)
    cursor = connection.cursor()
    rounds, longest_s = 0, 0.0
    print("writing", flush=True)
    while not told:
        rounds += 1
        statements = [f"UPDATE {name} SET c = c + 1" for name in counters]
        row = rounds * 7919 % ROWS
        statements += [f"UPDATE rows_{name} SET word = '{rounds:x}', n = n + 1 WHERE id = {row}" for name in counters]
        for statement in statements:
            begun = time.monotonic()
            cursor.execute(statement)
            longest_s = max(longest_s, time.monotonic() - begun)
        time.sleep(PAUSE_S)
    print(json.dumps({"rounds": rounds, "longest_s": longest_s}))


def tables(engines):
    """Return the statements that make the tables of counters, by name, with these engines."""
    statements = ["DROP DATABASE IF EXISTS d; CREATE DATABASE d; USE d;"]
    for name, engine in engines.items():
        statements.append(
            f"CREATE TABLE {name} (id INT PRIMARY KEY, c BIGINT) ENGINE={engine};"
            f"INSERT INTO {name} VALUES (1, 0);"
            f"CREATE TABLE rows_{name} (id INT PRIMARY KEY, word VARCHAR(40), n BIGINT, KEY (word)) ENGINE={engine};"
            f"INSERT INTO rows_{name} SELECT seq, 'new', 0 FROM seq_0_to_{ROWS};"
        )
    return "\n".join(statements)


@contextlib.contextmanager
def writing(guest, *counters):
    """Yield a dict that, after the block, says what a writer at these counters saw: rounds, longest_s."""
    said = {}
    process = subprocess.Popen(
        [*guest.netns, sys.executable, os.path.abspath(__file__), guest.address, *counters],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "writing\n"
        yield said
        process.terminate()
        out, _ = process.communicate(timeout=90)
        assert process.returncode == 0
        said.update(json.loads(out))
    finally:
        process.kill()
        process.communicate()


if __name__ == "__main__":
    main(*sys.argv[1:])
