"""Facts about a MySQL or MariaDB server: its identity, its directories, its binary log's position.

The statements differ between the two products and their releases; the results have one form
for all. They are plain values, ready for JSON.
"""

import posixpath
import re
from typing import Any

from blockdiff.mysql.connection import SYNTAX_ERROR, Connection, ServerGone, ServerRefused

_DIRECTORIES = (
    "datadir",
    "innodb_data_home_dir",
    "innodb_log_group_home_dir",
    "innodb_undo_directory",
    "aria_log_dir_path",
)
_VARIABLES = ("hostname", "port", "pid_file", "server_uuid", "server_uid", "log_bin_basename", *_DIRECTORIES)
_GLOBAL_GRANT = re.compile(r"GRANT (?P<privileges>.*?) ON \*\.\* TO", re.IGNORECASE)


def identity(connection: Connection) -> dict[str, Any]:
    """Return which server this is, and where its files are.

    Keys: server ("HOST:PORT" by its own name), version, hostname, pid_file, datadir, uuid,
    and directories: every folder of its data, redo, undo or binary logs.
    """
    names = ", ".join(f"'{name}'" for name in _VARIABLES)
    rows = connection.rows(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})")
    variables = {str(row["variable_name"]).lower(): str(row["value"]) for row in rows}
    datadir = posixpath.normpath(variables["datadir"]) if variables.get("datadir") else None
    pid_file = variables.get("pid_file")
    return {
        "server": f"{variables.get('hostname', '?')}:{variables.get('port', '?')}",
        "version": connection.version,
        "hostname": variables.get("hostname"),
        "pid_file": posixpath.join(datadir or "/", pid_file) if pid_file else None,
        "datadir": datadir,
        "uuid": variables.get("server_uuid") or variables.get("server_uid"),
        "directories": directories(variables),
    }


def directories(variables: dict[str, str]) -> list[str]:
    """Return the folders that these variables name, absolute, each once."""
    datadir = variables.get("datadir") or ""
    if not datadir:
        return []
    found = {posixpath.normpath(posixpath.join(datadir, variables.get(name) or "")) for name in _DIRECTORIES}
    if variables.get("log_bin_basename"):
        found.add(posixpath.normpath(posixpath.join(datadir, posixpath.dirname(variables["log_bin_basename"]))))
    return sorted(found)


def position(connection: Connection) -> tuple[dict[str, Any], list[str]]:
    """Return the position of the binary log, and warnings for what the account may not read.

    Keys: binlog ({"file", "position"}, None without a binary log) and gtid (None without).
    """
    warnings = []
    binlog = gtid = None
    try:
        rows = _binlog_status(connection)
        if rows:
            binlog = {"file": str(rows[0]["file"]), "position": int(rows[0]["position"])}
    except ServerRefused as error:
        warnings.append(f"the position of the binary log is not known: {error}")
    try:
        name = "gtid_binlog_pos" if connection.mariadb else "gtid_executed"
        value = connection.rows(f"SELECT @@GLOBAL.{name} AS gtid")[0]["gtid"]
        # MySQL breaks long sets into lines
        gtid = "".join(str(value).split()) or None if value is not None else None
    except ServerRefused as error:
        warnings.append(f"the GTID position is not known: {error}")
    return {"binlog": binlog, "gtid": gtid}, warnings


def client_port(connection: Connection) -> int | None:
    """Return the client's TCP port of this connection as the server shows it; None for a unix socket."""
    for row in connection.rows("SHOW PROCESSLIST"):
        if int(row["id"]) == connection.id:
            port = str(row["host"]).rpartition(":")[2]
            return int(port) if port.isdecimal() else None
    return None


def own_account(connection: Connection) -> str | None:
    """Return our account as the server identified it, quoted as in GRANT; None if that is not known."""
    try:
        name, _, host = str(connection.rows("SELECT CURRENT_USER() AS account")[0]["account"]).rpartition("@")
    except (ServerGone, ServerRefused):
        return None
    safe = all(letter.isalnum() or letter in "._%-:/" for letter in name + host)
    return f"'{name}'@'{host}'" if safe else None


def uptime_s(connection: Connection) -> float:
    """Return for how many seconds the server has been running."""
    return float(connection.rows("SHOW GLOBAL STATUS LIKE 'Uptime'")[0]["value"])


def _binlog_status(connection: Connection) -> list[dict[str, Any]]:
    """Ask by the statement that the server's release knows: MySQL 8.2 has a new one, 8.4 only that."""
    statements = ["SHOW MASTER STATUS", "SHOW BINARY LOG STATUS"]
    if not connection.mariadb and connection.release >= (8, 2, 0):
        statements.reverse()
    try:
        return connection.rows(statements[0])
    except ServerRefused as error:
        if error.code != SYNTAX_ERROR:
            raise
        return connection.rows(statements[1])


def sees_all_threads(connection: Connection) -> bool:
    """Return whether the list of threads shows those of other accounts: the PROCESS privilege."""
    for row in connection.rows("SHOW GRANTS"):
        for grant in row.values():
            match = _GLOBAL_GRANT.match(str(grant))
            if match and re.search(r"\b(ALL PRIVILEGES|PROCESS)\b", match["privileges"], re.IGNORECASE):
                return True
    return False
