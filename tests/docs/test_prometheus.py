"""The example of rules for Prometheus, read by promtool and tried on what blockdiff-check wrote."""

import datetime
import json
import os

import pytest
from launched import needs
from ownmachine import EXAMPLES, call
from places import ROOT

RULES = EXAMPLES / "prometheus-rules.yml"
HOUR = 3600
BEGUN = 195 * HOUR  # of the first backups: promtool's tests begin with 1970
LATER = 71 * 24 * HOUR


@pytest.fixture(scope="module")
def scrapes(tmp_path_factory):
    """What node_exporter finds: a dict of seconds since the first backups -> {series: value}.

    One set is backed up each day for three days and never proved but once, one only once, one never began.
    """
    needs("promtool", "faketime")
    folder = tmp_path_factory.mktemp("scrapes")
    (folder / "disk.img").write_bytes(os.urandom(50_000))
    environment = {**os.environ, "TZ": "UTC", "XDG_STATE_HOME": str(folder / "state")}

    def at(seconds, program, *words, code=0):
        moment = datetime.datetime.fromtimestamp(BEGUN + seconds, datetime.UTC)
        fake = ["faketime", "-f", f"@{moment:%Y-%m-%d %H:%M:%S}", ROOT / "bin" / program]
        call(*fake, *words, code=code, env=environment, cwd=folder)

    found = {}

    def check(seconds):
        names = ["good", "stopped", "none"]
        at(seconds, "blockdiff-check", "--still", "1000d", "--prometheus", "out.prom", *names, code=2)
        text = (folder / "out.prom").read_text()
        call("promtool", "check", "metrics", input=text)
        lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
        found[seconds] = {series: int(value) for series, _, value in lines}

    at(0, "blockdiff-backup", "good", "disk.img")
    at(0, "blockdiff-backup", "stopped", "disk.img")
    check(HOUR)
    at(2 * HOUR, "blockdiff-verify", "-q", "good")
    at(24 * HOUR, "blockdiff-backup", "good", "disk.img")
    check(30 * HOUR)
    at(48 * HOUR, "blockdiff-backup", "good", "disk.img")
    check(51 * HOUR)
    check(LATER)
    return found


def samples(scrapes, series, interval, until):
    """Return a series in promtool's words: each sample is what the file said then; none before the first check."""
    out = [f"_x{(BEGUN + min(scrapes)) // interval}"]  # the sample at 0 is one, too
    for second in range(min(scrapes), until, interval):
        written = max(moment for moment in scrapes if moment <= second)
        out.append(str(scrapes[written].get(series, "_")))
    return " ".join(out)


def alerts(folder, scrapes, interval, until, expected):
    """Let promtool compare: `expected` has (second, alert) -> [(set, severity, annotations)]."""
    every = sorted({series for each in scrapes.values() for series in each})
    tests = []
    for (second, name), some in expected.items():
        alerts = [
            {"exp_labels": {"severity": severity, **({"set": which} if which else {})}, "exp_annotations": told}
            for which, severity, told in some
        ]
        tests.append({"eval_time": f"{BEGUN + second}s", "alertname": name, "exp_alerts": alerts})
    series = [{"series": one, "values": samples(scrapes, one, interval, until)} for one in every]
    test = {"interval": f"{interval}s", "input_series": series, "alert_rule_test": tests}
    path = folder / "test.yml"  # JSON is YAML
    path.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": f"{interval}s", "tests": [test]}))
    call("promtool", "test", "rules", path)


def state(which, word):
    return {"summary": f"backup set {which} {word}", "description": f"blockdiff-check {which} says why"}


def test_promtool_takes_the_rules():
    needs("promtool")
    assert "6 rules found" in call("promtool", "check", "rules", RULES)


def test_alerts_come_when_they_should_and_not_before(scrapes, tmp_path):
    none = ("none", "critical", state("none", "is critical"))
    stopped = ("stopped", "critical", state("stopped", "is critical"))
    warns = ("stopped", "warning", state("stopped", "has warnings"))
    old = ("stopped", "critical", {"summary": "the newest backup of stopped is 2d 3h 0m 0s old"})
    silent = ("", "critical", {"summary": "blockdiff-check has not run for 2h 5m 0s: nothing is known of any set"})
    gone = ("", "critical", {"summary": "no metrics of blockdiff-check: nothing is known of any set"})
    last = 55 * HOUR  # then the file is removed
    expected = {
        (HOUR, "BlockdiffCritical"): [none],
        (HOUR, "BlockdiffWarning"): [],
        (HOUR, "BlockdiffCheckStopped"): [],
        (HOUR + 600, "BlockdiffCheckAbsent"): [],
        (30 * HOUR + 600, "BlockdiffWarning"): [],
        (31 * HOUR, "BlockdiffWarning"): [warns],
        (31 * HOUR, "BlockdiffBackupTooOld"): [],
        (50 * HOUR, "BlockdiffBackupTooOld"): [],
        (51 * HOUR, "BlockdiffBackupTooOld"): [old],
        (51 * HOUR, "BlockdiffCritical"): [none, stopped],
        (52 * HOUR, "BlockdiffWarning"): [],
        (53 * HOUR, "BlockdiffCheckStopped"): [],
        (53 * HOUR + 300, "BlockdiffCheckStopped"): [silent],
        (53 * HOUR, "BlockdiffProofTooOld"): [],
        (last + HOUR - 300, "BlockdiffCheckAbsent"): [],
        (last + HOUR + 600, "BlockdiffCheckAbsent"): [gone],
    }  # fmt: skip
    alerts(tmp_path, scrapes, 300, last, expected)


def test_a_proof_is_too_old_only_after_its_time(scrapes, tmp_path):
    """A version that was never proved counts from its begin; the one of yesterday is no alert today."""

    def proved(which, ago):
        return which, "critical", {"summary": f"a version of {which} was not proved for {ago}"}

    expected = {
        (51 * HOUR, "BlockdiffProofTooOld"): [],
        (LATER, "BlockdiffProofTooOld"): [proved("good", "70d 22h 0m 0s"), proved("stopped", "71d 0h 0m 0s")],
    }
    alerts(tmp_path, scrapes, HOUR, LATER + HOUR, expected)
