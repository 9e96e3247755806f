"""The page of blockdiff-report in a real browser: nothing executes, nothing is fetched, everybody can read it."""

import datetime
import os
import urllib.parse

import browser
import chains
import pytest
from verbs import environment, words

from blockdiff.formats import manifest

SHOWN = [(width, scheme) for width in (1280, 360) for scheme in ("light", "dark")]
BLOCK = 64
IMG = "<img src=x onerror=window.ran=1>"
SCRIPT = "</title></style></script><script>window.ran=1</script>"
SVG = '"><svg onload=window.ran=1>'
LONG = "a-name-of-a-set-without-any-blank-" * 4


def begun(days):
    time = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days, hours=1)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def write(folder, base, count, **more):
    """A set of a version each day until today, whose manifests have these values, too."""
    made = chains.new_set(folder, base)
    volume = bytearray(os.urandom(600 * BLOCK))
    for number in range(1, count + 1):
        volume[number * BLOCK : (number + 9) * BLOCK] = os.urandom(9 * BLOCK)
        chains.write_version(made, bytes(volume), BLOCK, full=number == 4, begun=begun(count - number))
        path = made.path(number, ".json")
        with open(path, "rb") as file:
            value = manifest.decode(file.read()).value | more
        value["snapshot"] = {"name": "s", "fill_at_end": 1.5 * number}
        value["quiesce"] = {"method": "x", "held_s": 0.02 * number}
        with open(path, "wb") as file:
            file.write(manifest.encode(value))
    return made


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page, as the program writes it, of sets that are well, of some that are not, and of hostile ones."""
    import subprocess

    folder = tmp_path_factory.mktemp("sets")
    write(folder, "db00", 40, consistency="application", source={"host": "db00", "path": "/dev/vg0/db", "size": 38400})
    pruned = write(folder, "pruned", 9)
    chains.rewrite(pruned, 6, 4, [5, 6])
    chains.drop(pruned, 5)
    (folder / "pruned.6.keep").touch()
    broken = write(folder, LONG, 6)
    os.truncate(broken.path(5, ".gz"), 9)
    write(folder, IMG, 2, source={"host": SCRIPT, "path": SVG, "size": 38400}, consistency=SCRIPT)
    write(folder, "renamed", 2, set=SVG)
    write(folder, "timeless", 2, begun=IMG, ended=SVG)
    write(folder, "surrogate", 2, source={"host": "h\ud800", "path": "/p\x07", "size": 38400}, consistency="c\udfff")
    write(folder, "\udcff\x1b[1m\u202e", 1)
    path = folder / "page.html"
    line = words("report", "-o", path, "--title", SCRIPT, folder, folder / "never")
    subprocess.run(line, env=environment(folder), check=True, timeout=60)
    return path


@pytest.fixture(scope="module")
def chromium():
    with browser.started() as one:
        yield one


@pytest.mark.parametrize("width, scheme", SHOWN)
def test_it_opens_from_the_disk_and_fetches_nothing(chromium, page, width, scheme):
    console, asked = chromium.show(page, width, scheme)
    assert console == []
    assert "file://" + urllib.parse.quote(str(page)) in asked  # so requests are seen
    assert [url for url in asked if not url.startswith("data:image/png;base64,")] == asked[:1]
    images = "return [...document.querySelectorAll('image')].map(one => one.getBoundingClientRect().width)"
    assert len(chromium.run(images)) >= 5 and min(chromium.run(images)) > 100


@pytest.mark.parametrize("width, scheme", SHOWN)
def test_it_never_scrolls_sideways(chromium, page, width, scheme):
    chromium.show(page, width, scheme)
    chromium.run("document.querySelectorAll('details').forEach(one => one.open = true)")
    chromium.run("document.querySelectorAll('.set').forEach(one => one.style.contentVisibility = 'visible')")
    assert chromium.run("return [innerWidth, document.documentElement.scrollWidth]") == [width, width]
    wide = """return [...document.querySelectorAll('body *')].filter(one =>
        !one.closest('.scroll table') && one.getBoundingClientRect().right > innerWidth + 1).map(one => one.outerHTML.slice(0, 90))"""
    assert chromium.run(wide) == []


@pytest.mark.parametrize("width, scheme", SHOWN)
def test_axe_finds_no_serious_fault(chromium, page, width, scheme):
    chromium.show(page, width, scheme)
    chromium.run("document.querySelectorAll('details').forEach(one => one.open = true)")
    chromium.run("document.querySelectorAll('.set').forEach(one => one.style.contentVisibility = 'visible')")
    assert [fault for fault in chromium.faults() if fault[0] in ("serious", "critical")] == []


def test_light_and_dark_differ(chromium, page):
    colours = []
    for scheme in ("light", "dark"):
        chromium.show(page, 1280, scheme)
        colours.append(chromium.run("const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"))
    assert colours[0] != colours[1]


def test_what_manifests_and_names_say_is_text(chromium, page):
    chromium.show(page, 1280, "light")
    assert chromium.run("return window.ran") is None
    foreign = "img, script, iframe, object, embed, link, a:not([href^='#']), [style], [onload], [onerror], svg svg"
    assert chromium.run(f"return document.querySelectorAll({foreign!r}).length") == 0
    chromium.run("document.querySelectorAll('details').forEach(one => one.open = true)")
    text = chromium.run("return document.body.textContent")
    for hostile in (IMG, SCRIPT, f"{SCRIPT}:{SVG}", repr(SVG)[1:-1]):
        assert hostile in text
    assert chromium.run("return document.title").startswith(SCRIPT)
    for escaped in ("h\\ud800:/p\\x07", "c\\udfff", "\\xff\\x1b[1m\\u202e"):
        assert escaped in text
    assert "\x1b" not in text and "\u202e" not in text


def test_nothing_on_it_could_execute(chromium, page):
    """Not even if something hostile were an element."""
    chromium.show(page, 1280, "light")
    chromium.run("""
        const made = document.createElement('div');
        made.innerHTML = '<img src="https://example.invalid/x.png" onerror="window.ran=1"><p style="color:red">x</p>';
        document.body.append(made);
        const script = document.createElement('script');
        script.textContent = 'window.ran=1';
        document.body.append(script)""")
    assert chromium.run("return window.ran") is None
    assert chromium.run("return getComputedStyle(document.querySelector('div > p[style]')).color") != "rgb(255, 0, 0)"


def test_each_chart_has_a_title_and_a_description_and_its_text_is_text(chromium, page):
    chromium.show(page, 1280, "light")
    charts = chromium.run("""return [...document.querySelectorAll('figure svg')].map(one => [
        one.getAttribute('aria-labelledby').split(' ').map(id => document.getElementById(id).textContent),
        one.querySelectorAll('text').length])""")
    assert len(charts) >= 20
    assert all(title and len(about) > 30 and texts >= 2 for (title, about), texts in charts)
    assert {title for (title, _), _ in charts} == {
        "Versions over time", "What changed where", "Volume and archive", "Lock and snapshot",
    }  # fmt: skip
    marks = chromium.run("""return [...document.querySelectorAll('.legend span')].map(one => one.textContent)""")
    assert {"full", "incremental", "removed", "kept by hand", "does not restore"} <= set(marks)


def test_it_prints_all_that_is_open(chromium, page):
    chromium.show(page, 1280, "dark")
    chromium._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert chromium.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
