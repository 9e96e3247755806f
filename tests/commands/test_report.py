"""blockdiff-report as a launched program: the file that it writes, and what it says where it cannot."""

import os
import re

import chains
import places
import pytest
from verbs import BLOCK


def test_a_page_replaces_the_file_whole(run_verb, plain_set, tmp_path):
    path = tmp_path / "pages" / "page.html"
    path.parent.mkdir()
    path.write_text("old")
    before = path.stat().st_ino
    done = run_verb("report", "-o", path, "--title", "Nights & days", plain_set.name)
    assert (done.returncode, done.out, done.err) == (0, "", "")
    page = path.read_text()
    assert page.startswith("<!doctype html>") and page.endswith("</html>\n") and "<title>Nights &amp; days: " in page
    assert path.stat().st_ino != before and oct(path.stat().st_mode & 0o777) == "0o644"
    assert os.listdir(path.parent) == ["page.html"]
    assert run_verb("report", plain_set.name).out.endswith("</html>\n")


@pytest.mark.parametrize("words", [(), ("--maps", "-1", "x"), ("--jobs", "0", "x")], ids=str)
def test_wrong_usage(words, run_verb):
    assert run_verb("report", *words).returncode == 2


def test_a_page_that_cannot_be_written(run_verb, plain_set, tmp_path):
    done = run_verb("report", "-o", tmp_path / "none" / "page.html", plain_set.name)
    assert (done.returncode, done.out) == (15, "")
    assert done.err.startswith(f"blockdiff: cannot write {tmp_path}/none/page.html: No such file or directory")


def test_sets_that_are_not_well_are_on_the_page(run_verb, plain_set, tmp_path):
    broken = chains.new_set(tmp_path, "broken")
    chains.write_version(broken, b"x", BLOCK)
    os.unlink(broken.path(1, ".gz"))
    done = run_verb("report", tmp_path, tmp_path / "never")
    assert (done.returncode, done.err) == (0, "")
    assert f"no such set: {tmp_path}/never" in done.out and "broken.1.gz is missing" in done.out


def test_without_the_library_one_line_says_how_to_get_it(run_verb, plain_set, tmp_path):
    (tmp_path / "jinja2.py").write_text("raise ModuleNotFoundError(\"No module named 'jinja2'\", name='jinja2')\n")
    env = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{places.ROOT}"}
    done = run_verb("report", plain_set.name, env=env)
    assert (done.returncode, done.out) == (60, "")
    line = "blockdiff: the Python library jinja2 is needed and cannot be used: it is not installed (hint: pip install 'blockdiff[report]')\n"
    assert done.err == line
    assert run_verb("list", plain_set.name, env=env).returncode == 0


def test_several_processes_make_a_page_of_the_same_sets(run_verb, tmp_path):
    for number in range(7):
        chains.random_set(tmp_path, 2, BLOCK, base=f"set{number}")
    alone, several = (run_verb("report", "--jobs", jobs, tmp_path).out for jobs in (1, 3))
    found = [re.findall(r'<section class="set" id="(s\d+)".*?</span> ([^<]*)</h2>.*?(<figure>|$)', page, re.DOTALL) for page in (alone, several)]
    assert len(found[0]) == 7 and found[0] == found[1]
    assert {figure for _, _, figure in found[0]} == {"<figure>"}
