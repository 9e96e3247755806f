"""Whether the locked application is a process of this host with all its data on one volume.

Its own report is not enough: a server on another host may keep its data in folders of the same
names, and its host may have the same name.  So its process is looked up here and, where the
lock was taken over the network, the lock's connection among the connections of that process.
"""

import os

_ESTABLISHED = "01"


def holds(device, places):
    """Return whether all data of the application that `places` describe is on a block device (its path).

    Keys: pid_file, directories, hostname (None: not known) and client_port (the far end's of the
    connection of the lock; None: it came through a socket of the application's own host).
    """
    try:
        with open(places["pid_file"]) as file:
            pid = int(file.read(32))
        number = os.stat(device).st_rdev
        folders = places["directories"]
        if not folders or any(os.stat(folder).st_dev != number for folder in folders):
            return False
        return _here(pid, places["hostname"], places["client_port"])
    except (OSError, ValueError):
        return False


def _here(pid, hostname, port):
    """Return whether the process is the application's; raises OSError if it is not there."""
    os.kill(pid, 0)
    if hostname is not None and hostname != os.uname().nodename:
        return False
    return port is None or bool(_connections(pid, port) & _sockets(pid))


def _connections(pid, port):
    """Return the inodes of the connections to a remote port in a process's network name space."""
    found = set()
    for name in ("tcp", "tcp6"):
        try:
            with open("/proc/%d/net/%s" % (pid, name)) as file:
                rows = [line.split() for line in file][1:]
        except FileNotFoundError:  # a host without IPv6
            continue
        for row in rows:
            if row[3] == _ESTABLISHED and int(row[2].rpartition(":")[2], 16) == port:
                found.add(row[9])
    return found


def _sockets(pid):
    """Return the inodes of the sockets of a process; raises OSError if that may not be seen."""
    folder = "/proc/%d/fd" % pid
    found = set()
    for name in os.listdir(folder):
        try:
            kind, _, rest = os.readlink("%s/%s" % (folder, name)).partition(":")
        except FileNotFoundError:  # closed meanwhile
            continue
        if kind == "socket":
            found.add(rest.strip("[]"))
    return found
