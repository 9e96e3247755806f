"""The page's table of ssh_config keywords against the program's own list and against what we do with each."""

import subprocess

from mdoc import Page, items, plain
from sshd import available
from test_sshcommand import DANGEROUS, WISHES

from blockdiff.transport import configlines, sshcommand, sshconfig


def table():
    """Return the text of each group of keywords."""
    return {
        head.removeprefix("Em "): plain(body)
        for head, body in items(Page("blockdiff.7").section("SSH configuration"))
    }


def keywords(text):
    """Return the keywords of a group, in lower case: they begin with capitals."""
    words = [word.strip(",.():") for word in text.split()]
    return [word.lower() for word in words if word[:1].isupper() and not word.isupper()]


def test_every_keyword_stands_once(tmp_path):
    available()
    found = [word for text in table().values() for word in keywords(text)]
    assert len(found) == len(set(found))
    config = tmp_path / "config"
    config.write_text(f"{WISHES}\nProxyJump none\n{DANGEROUS}")
    shown = subprocess.run(["ssh", "-F", config, "-G", "db00"], capture_output=True, text=True, check=True).stdout
    assert set(sshconfig.parse_options(shown)) - set(found) == set()


def test_what_is_left_to_the_program_is_what_the_code_leaves():
    told = keywords(table()["left to the ssh program"])
    assert set(sshconfig._BEYOND) <= set(told)
    assert not set(configlines._SINGLE) - set(told) - set(keywords(table()["honoured"]))


def test_what_is_always_the_same_is_what_the_program_is_told():
    told = {part.strip().rpartition(" ")[::2] for part in table()["always the same"].split(",")}
    wanted = {**sshcommand._ALWAYS, **sshcommand._NEWER}
    # -a, -x, -k, -T and ClearAllForwardings do these
    by_others = ("ForwardAgent", "ForwardX11", "GSSAPIDelegateCredentials", "RequestTTY", "Tunnel")
    assert {pair for pair in told if "ServerAliveCountMax" not in pair[0]} == set(wanted.items()) | {
        (name, "no") for name in by_others
    }
