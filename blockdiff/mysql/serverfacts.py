"""What a MySQL or MariaDB server says of itself: where it lies, where its binary log stands.

The two families and their releases word the questions differently; the answers are the
same for all. They are plain values, ready for JSON.
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


def identity(session: Connection) -> dict[str, Any]:
    """Return who the server is and where its files lie.

    Keys: server ("HOST:PORT" by its own name), version, hostname, pid_file, datadir, uuid,
    and directories: every folder that it keeps data, redo, undo or binary logs in.
    """
    names = ", ".join(f"'{name}'" for name in _VARIABLES)
    rows = session.rows(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})")
    said = {str(row["variable_name"]).lower(): str(row["value"]) for row in rows}
    datadir = posixpath.normpath(said["datadir"]) if said.get("datadir") else None
    pid_file = said.get("pid_file")
    return {
        "server": f"{said.get('hostname', '?')}:{said.get('port', '?')}",
        "version": session.version,
        "hostname": said.get("hostname"),
        "pid_file": posixpath.join(datadir or "/", pid_file) if pid_file else None,
        "datadir": datadir,
        "uuid": said.get("server_uuid") or said.get("server_uid"),
        "directories": directories(said),
    }


def directories(said: dict[str, str]) -> list[str]:
    """Return the folders that these variables name, absolute, each once."""
    datadir = said.get("datadir") or ""
    if not datadir:
        return []
    found = {posixpath.normpath(posixpath.join(datadir, said.get(name) or "")) for name in _DIRECTORIES}
    if said.get("log_bin_basename"):
        found.add(posixpath.normpath(posixpath.join(datadir, posixpath.dirname(said["log_bin_basename"]))))
    return sorted(found)


def position(session: Connection) -> tuple[dict[str, Any], list[str]]:
    """Return where the binary log stands, and warnings for what may not be asked.

    Keys: binlog ({"file", "position"}, None without a binary log) and gtid (None without).
    """
    warnings = []
    binlog = gtid = None
    try:
        rows = _binlog_status(session)
        if rows:
            binlog = {"file": str(rows[0]["file"]), "position": int(rows[0]["position"])}
    except ServerRefused as error:
        warnings.append(f"the position of the binary log is not known: {error}")
    try:
        name = "gtid_binlog_pos" if session.mariadb else "gtid_executed"
        said = session.rows(f"SELECT @@GLOBAL.{name} AS gtid")[0]["gtid"]
        # MySQL breaks long sets into lines
        gtid = "".join(str(said).split()) or None if said is not None else None
    except ServerRefused as error:
        warnings.append(f"the GTID position is not known: {error}")
    return {"binlog": binlog, "gtid": gtid}, warnings


def client_port(session: Connection) -> int | None:
    """Return our port of this connection as the server sees it; None through its socket."""
    for row in session.rows("SHOW PROCESSLIST"):
        if int(row["id"]) == session.id:
            port = str(row["host"]).rpartition(":")[2]
            return int(port) if port.isdecimal() else None
    return None


def own_account(session: Connection) -> str | None:
    """Return the account that we were taken for, quoted as GRANT has it; None if that is not known."""
    try:
        name, _, host = str(session.rows("SELECT CURRENT_USER() AS account")[0]["account"]).rpartition("@")
    except (ServerGone, ServerRefused):
        return None
    safe = all(letter.isalnum() or letter in "._%-:/" for letter in name + host)
    return f"'{name}'@'{host}'" if safe else None


def uptime_s(session: Connection) -> float:
    """Return for how many seconds the server has been running."""
    return float(session.rows("SHOW GLOBAL STATUS LIKE 'Uptime'")[0]["value"])


def _binlog_status(session: Connection) -> list[dict[str, Any]]:
    """Ask in the words that the server's release knows: MySQL 8.2 has new ones, 8.4 only those."""
    statements = ["SHOW MASTER STATUS", "SHOW BINARY LOG STATUS"]
    if not session.mariadb and session.release >= (8, 2, 0):
        statements.reverse()
    try:
        return session.rows(statements[0])
    except ServerRefused as error:
        if error.code != SYNTAX_ERROR:
            raise
        return session.rows(statements[1])


def sees_everybody(session: Connection) -> bool:
    """Return whether the list of threads shows other people's, too: the PROCESS privilege."""
    for row in session.rows("SHOW GRANTS"):
        for grant in row.values():
            match = _GLOBAL_GRANT.match(str(grant))
            if match and re.search(r"\b(ALL PRIVILEGES|PROCESS)\b", match["privileges"], re.IGNORECASE):
                return True
    return False
