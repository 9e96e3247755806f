"""The examples for NRPE and Icinga, read by these, and asked for a state as they ask."""

import json
import pathlib
import re
import shlex
import subprocess
import time

import pytest
from launched import lacking, needs
from ownmachine import EXAMPLES, machine

__all__ = ["machine"]

PLUGIN = "/usr/lib/nagios/plugins/check_nrpe"


@pytest.fixture(scope="module")
def monitored(machine):
    """The Machine with the sudoers' line, its set backed up and proved."""
    needs("sudo", "visudo")
    machine.run("install", "-m", "440", EXAMPLES / "sudoers", "/etc/sudoers.d/blockdiff")
    assert "parsed OK" in machine.run("visudo", "-cf", "/etc/sudoers.d/blockdiff")
    machine.line("/opt/blockdiff/bin/blockdiff-run -q /etc/backups.list")
    machine.line("/opt/blockdiff/bin/blockdiff-verify -q /var/backup")
    return machine


def nrpe_line():
    (line,) = re.findall(r"^command\[check_blockdiff\]=(.*)$", (EXAMPLES / "nrpe.cfg").read_text(), re.M)
    return line


OK = re.compile(
    r"BLOCKDIFF OK - 1 set, the newest version of each at most 0 min old"
    r" \| 'age'=\d+s;93600;180000;0 'points'=\d+ 'proved'=\d+s;3024000;6048000;0 'stored'=\d+B( 'room'=\d+s)?\n"
)


@pytest.fixture
def with_one_that_never_began(monitored):
    monitored.line("echo '/var/backup/never /srv/disk.img' >>/etc/backups.list")
    yield monitored
    monitored.line("sed -i '/never/d' /etc/backups.list")


def test_check_in_a_shell_as_another_user(monitored):
    """With nothing in the environment, and with a locale that has ASCII only."""
    needs("nrpe")  # its package makes the user
    for first in ("", "LC_ALL=C ", "LC_ALL=POSIX LANG=C PYTHONUTF8=0 "):
        assert OK.fullmatch(monitored.line(f"{first}{nrpe_line()}", user="nagios"))
    assert "password is required" in monitored.line("sudo -n /opt/blockdiff/bin/blockdiff-check /etc", user="nagios", code=1)
    direct = nrpe_line().removeprefix("/usr/bin/sudo -n ")
    assert monitored.line(direct, user="nagios", code=3).startswith("BLOCKDIFF UNKNOWN - ")


def test_nrpe_tells_what_check_found(monitored, with_one_that_never_began):
    needs("nrpe")
    if not pathlib.Path(PLUGIN).exists():
        lacking("check_nrpe is missing")
    monitored.run("cp", EXAMPLES / "nrpe.cfg", "/etc/nagios/nrpe.d/blockdiff.cfg")
    with subprocess.Popen(monitored.words("nrpe", "-c", "/etc/nagios/nrpe.cfg", "-f")) as server:
        try:
            for _ in range(100):
                asked = subprocess.run(monitored.words(PLUGIN, "-H", "127.0.0.1"), capture_output=True)
                if asked.returncode == 0:
                    break
                time.sleep(0.1)
            ask = [PLUGIN, "-H", "127.0.0.1", "-c", "check_blockdiff"]
            bad = monitored.run(*ask, code=2)
            monitored.line("sed -i '/never/d' /etc/backups.list")
            good = monitored.run(*ask)
        finally:
            server.terminate()
    first, second, third = bad.splitlines()
    assert first.startswith("BLOCKDIFF CRITICAL - 1 of 2 sets critical: never: no such set") and " | 'age'=" in first
    assert second.startswith("CRITICAL /var/backup/never: no such set") and third == "OK 1"
    assert OK.fullmatch(good)


ICINGA = """
const PluginDir = "/usr/lib/nagios/plugins"
include <itl>
object Endpoint NodeName {}
object Zone "master" { endpoints = [ NodeName ] }
include_zones "test", "/etc/icinga2/test"
"""
HOSTS = """
object Host "asked" { check_command = "dummy", address = "127.0.0.1", vars.blockdiff_nrpe = true }
object Host "agent" { check_command = "dummy", vars.blockdiff_endpoint = NodeName }
object Host "neither" { check_command = "dummy" }
"""


def test_icinga_takes_its_commands_and_services(monitored):
    needs("icinga2")
    monitored.run("mkdir", "-p", "/etc/icinga2/test/master")
    monitored.run("cp", EXAMPLES / "icinga2.conf", "/etc/icinga2/test/master")
    for name, text in (("test.conf", ICINGA), ("test/master/hosts.conf", HOSTS.replace(", ", "\n"))):
        monitored.line(f"printf %s {shlex.quote(text)} >/etc/icinga2/{name}")
    told = monitored.run("icinga2", "daemon", "-C", "-c", "/etc/icinga2/test.conf")
    assert "2 Services." in told and "warning" not in told, told


def test_icinga_nrpe_and_sudoers_have_the_same_words():
    (allowed,) = re.findall(r"^nagios ALL=\(root\) NOPASSWD: (.*)$", (EXAMPLES / "sudoers").read_text(), re.M)
    assert nrpe_line() == f"/usr/bin/sudo -n {allowed}"
    text = (EXAMPLES / "icinga2.conf").read_text()
    command = json.loads(re.search(r"command = (\[ \"/usr/bin/sudo.*?\])", text)[1])
    (option,) = re.findall(r'"(--\w+)" = "\$blockdiff_list\$"', text)
    (default,) = re.findall(r'vars\.blockdiff_list = "(.*)"', text)
    assert shlex.join([*command, option, default]) == nrpe_line()
