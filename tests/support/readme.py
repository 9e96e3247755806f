"""What the README shows: commands, cron jobs, logs and the list."""

import re
import socket

import numbers_line
from places import ROOT

README = (ROOT / "README.md").read_text()
INDENTED = [line[4:] for line in README.splitlines() if line.startswith("    ") and "#!" not in line]
FENCED = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.M | re.S)
CRON = re.compile(r"(?:[\d*/-]+ ){5}(.*)")
PLACES = ("/var/backup", "/var/log", "/srv", "/run", "/etc", "/usr/local/sbin")


def cron_line(word):
    """Return the one cron job in which a word stands, without its time."""
    (found,) = [match[1] for line in INDENTED if (match := CRON.fullmatch(line)) and word in line.split()]
    return found


def moved(line, root):
    """Return a line with its folders below another root."""
    return re.sub(rf"(?<![\w/.:])({'|'.join(PLACES)})(?=/|$|\s)", rf"{root}\1", line)


def shown_log(word):
    """Return the log that the README shows of a job with this word."""
    (found,) = [text for _, text in FENCED if text.startswith("-" * 78) and word in text]
    return found


def timeless(log):
    """Return the lines of a log without what differs from run to run, and the line of numbers."""
    log = log.replace(f"] {socket.gethostname()} starting", "] backup01 starting")
    log = re.sub(r"held for [\d.]+ s$", "held for TIME", log, flags=re.M)
    timeless = re.sub(r"^\[\w{3} \w{3} [ \d]\d [\d:]{8} \d{4}\]", "[TIME]", log, flags=re.M)
    return numbers_line.without(timeless.splitlines())


def shown_list():
    """Return the list for blockdiff-run that the README shows."""
    (found,) = [text for _, text in FENCED if text.startswith("# set ")]
    return found
