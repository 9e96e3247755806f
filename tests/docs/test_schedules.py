"""The examples for cron and systemd, read by these and run on a machine of their own."""

import configparser
import datetime
import itertools
import os
import re
import shlex

from launched import needs
from mdoc import MAN
from ownmachine import EXAMPLES, call, machine

__all__ = ["machine"]

UNITS = EXAMPLES / "systemd"
NAMES = ["backup", "scrub", "prune", "check"]
CRON = [line for line in (EXAMPLES / "crontab").read_text().splitlines() if re.match(r"[\d*]", line)]


def jobs():
    """Return the crontab's jobs: [(the five fields of the time, the line)]."""
    return [(line.split()[:5], line.split(None, 5)[5]) for line in CRON]


def unit(name):
    """Return a unit's sections."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read_string((UNITS / name).read_text())
    return parser


def test_cron_reads_the_crontab_and_its_lines_do_what_they_say(machine):
    needs("crontab")
    assert "successfully checked" in machine.run("crontab", "-n", EXAMPLES / "crontab")
    path = next(line for line in (EXAMPLES / "crontab").read_text().splitlines() if line.startswith("PATH="))
    for _, line in jobs():
        assert machine.line(f"export {path}; {line}") == ""
    log = machine.line("cat /var/log/backup.log /var/log/scrub.log /var/log/prune.log")
    assert log.count("command exited with code:0") == 4  # the list's one line has its own
    assert 'blockdiff_state{set="/var/backup/größe"} 0' in machine.line(
        "cat /var/lib/prometheus/node-exporter/blockdiff.prom"
    )


def test_units_run_what_the_crontab_runs(machine):
    assert len(CRON) == len(NAMES)
    for name, (_, line) in zip(NAMES, jobs(), strict=True):
        service = unit(f"blockdiff-{name}.service")["Service"]
        assert service["ExecStart"] == f"/opt/blockdiff/bin/{line.rpartition(' -- ')[2]}"
        assert service["Environment"] in (EXAMPLES / "crontab").read_text().splitlines()
        machine.run(*shlex.split(service["ExecStart"]))


def test_systemd_finds_nothing_wrong_with_the_units(machine):
    needs("systemd-analyze")
    assert sorted(path.name for path in UNITS.iterdir()) == sorted(
        f"blockdiff-{name}.{kind}" for name in NAMES for kind in ("service", "timer")
    )
    words = ["env", f"MANPATH={manpath(machine.folder)}", "systemd-analyze", "verify", *sorted(UNITS.iterdir())]
    assert machine.run(*words) == ""


def manpath(folder):
    """Return a folder in which man finds our pages."""
    if not (folder / "man").exists():
        (folder / "man").mkdir()
        (folder / "man" / "man1").symlink_to(MAN)
    return folder / "man"


def test_timers_are_at_the_times_of_cron():
    needs("systemd-analyze")
    begin = datetime.datetime(2026, 11, 18, 0, 0, 1)  # a Wednesday
    for name, (fields, _) in zip(NAMES, jobs(), strict=True):
        when = unit(f"blockdiff-{name}.timer")["Timer"]["OnCalendar"]
        told = call("systemd-analyze", "calendar", when, "--iterations=9", f"--base-time={begin}",
                    env={**os.environ, "TZ": "UTC", "LC_ALL": "C"})  # fmt: skip
        found = re.findall(r"(?:Next elapse|Iter\. #\d+): \w+ (\S+ \S+) UTC", told)
        assert found == [str(moment) for moment in itertools.islice(moments(fields, begin, 70), 9)], name


def moments(fields, begin, days):
    """Yield the moments within days after `begin` that five fields of a crontab name; no lists and no ranges."""
    for minute in range(1, days * 24 * 60):
        moment = begin.replace(second=0) + datetime.timedelta(minutes=minute)
        values = moment.minute, moment.hour, moment.day, moment.month, moment.isoweekday() % 7
        if all(fits(field, value) for field, value in zip(fields, values, strict=True)):
            yield moment


def fits(field, value):
    every, _, step = field.partition("/")
    return value % int(step) == 0 if step else every == "*" or int(every) == value


def test_the_page_names_every_example():
    page = (MAN / "blockdiff-check.1").read_text()
    for path in EXAMPLES.iterdir():
        assert f".It Pa {path.name}" in page, path.name
