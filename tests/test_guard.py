"""What holds the house together, looked for in its sources: layers, floors, lists, codes."""

import ast
import importlib
import os
import pkgutil
import re
import signal
import subprocess
import sys
import tomllib
from collections import Counter

import floor
import places
import pytest
from options import ORIGINAL

import blockdiff
from blockdiff.commands import programs
from blockdiff.errors import BlockdiffError, Interrupted
from blockdiff.source import push

ROOT = places.ROOT
MAN = ROOT / "man"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

# A room is a folder or a file of blockdiff/. It imports only rooms of lower rows, and itself.
LAYERS = (
    "errors formats printable",  # bytes and words
    "sealing",
    "wire codecs transport target place childprocess findprogram jobtext",  # devices, disks, networks
    "sets locking mysql signing",
    "source blocks",
    "ingest export guest page",
    "drilling",
    "rewriting",
    "backup check consolidate copy cronlog drill dryrun dump dumpcommand look mysqllock nbd patch prune report restore run scrub verify",  # verbs: none imports another
    "commands",  # people
)
PURE = (  # they decide, others act
    "blockdiff/formats/*.py", "blockdiff/errors.py", "blockdiff/wire/frames.py", "blockdiff/wire/messages.py",
    "blockdiff/transport/base.py", "blockdiff/transport/destination.py", "blockdiff/blocks/blockset.py", "blockdiff/sets/retention.py",
    "blockdiff/sets/pruning.py", "blockdiff/sets/health.py",
    "blockdiff/sealing/bech32.py", "blockdiff/sealing/payload.py",
)  # fmt: skip
# What the pure ones must do without.
IMPURE = {
    "fcntl", "os", "pathlib", "random", "select", "shutil", "signal", "socket", "subprocess", "tempfile", "time",
}  # fmt: skip
# Each in one place, so that it can be replaced there.
FOREIGN = {
    "botocore": "blockdiff/place/client.py",
    "click": "blockdiff/commands/*.py",
    "cryptography": "blockdiff/sealing/*.py",
    "deflate": "blockdiff/codecs/gzip.py",
    "isal": "blockdiff/codecs/gzip.py",
    "jinja2": "blockdiff/page/render.py",
    "markupsafe": "blockdiff/page/render.py",
    "paramiko": "blockdiff/transport/paramiko/*.py",
    "pymysql": "blockdiff/mysql/connection.py",
    "tqdm": "blockdiff/commands/*.py",
    "xxhash": "blockdiff/ingest/batch.py",
    "zstandard": "blockdiff/codecs/zstd.py",
}
BROUGHT = {"nbdkit": "blockdiff/export/plugin.py"}  # by the program that runs this file
# What an extra of ours brings, and what imports the modules that need it: late, so that it can say what is missing.
OPTIONAL = {
    "botocore": ("s3", "blockdiff.place.bucket"),
    "jinja2": ("report", "blockdiff.commands.report"),
    "markupsafe": ("report", "blockdiff.commands.report"),
}
# programs of their own, which are started by their path, or inside name spaces
STANDALONE = {"blockdiff/locking/gate.py", "blockdiff/drilling/inside.py", "blockdiff/drilling/inguest.py"}
MOST_LINES = 400
LONG = {  # and how long at most; a list that should get shorter
    "tests/wire/test_link.py": 450,
}


def python_files(*folders):
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def shown(path):
    return path.relative_to(ROOT).as_posix()


def module_of(path):
    """Return a file's module: blockdiff.formats for its __init__.py."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in python_files("blockdiff", "agent")}


def tree(path, **options):
    return ast.parse(path.read_text(), str(path), **options)


def imported(path, late=True, early=True):
    """Yield every module that a file imports, ours by their full names; `late`: inside functions too, `early`: outside."""
    package = module_of(path) if path.name == "__init__.py" else module_of(path).rpartition(".")[0]
    nodes = ast.walk(tree(path)) if late else tree(path).body
    if not early:
        functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
        nodes = [node for function in functions for node in ast.walk(function)]
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*package.split(".")[: len(package.split(".")) - node.level + 1], *base.split(".")])
                base = base.rstrip(".")
            for alias in node.names:
                yield f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base


def ours(names):
    return {name for name in names if name in MODULES}


def room(module):
    return module.removeprefix("blockdiff").lstrip(".").partition(".")[0]


def layer_of(module):
    """Return the row of a module's room; the package itself is the ground."""
    rows = [number for number, rooms in enumerate(LAYERS) if room(module) in rooms.split()]
    assert rows or module == "blockdiff", f"{module} is in no layer: give its room a place in LAYERS"
    return rows[0] if rows else 0


SERVER = python_files("blockdiff")
BELOW_PEOPLE = [path for path in SERVER if "commands" not in path.parts and shown(path) not in STANDALONE]


@pytest.mark.parametrize("path", SERVER, ids=shown)
def test_imports_point_down(path):
    me = module_of(path)
    others = {name for name in ours(imported(path)) if room(name) not in ("", room(me))}
    assert not {name for name in others if layer_of(name) >= layer_of(me)}


def test_layers_name_only_what_there_is():
    assert {name for rooms in LAYERS for name in rooms.split()} == {room(module_of(path)) for path in SERVER} - {""}


def test_imports_form_no_ring():
    left = {name: ours(imported(path)) - {name, "blockdiff"} for name, path in MODULES.items()}
    while free := {name for name, needs in left.items() if not needs & left.keys()}:
        left = {name: needs for name, needs in left.items() if name not in free}
    assert not left


@pytest.mark.parametrize("path", [p for p in SERVER if p.match(PURE[0]) or shown(p) in PURE], ids=shown)
def test_what_decides_does_nothing_else(path):
    assert not IMPURE & {name.split(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", SERVER, ids=shown)
def test_foreign_modules_stay_where_they_belong(path):
    for name in {name.split(".")[0] for name in imported(path)} - sys.stdlib_module_names - {"blockdiff"}:
        place = (FOREIGN | BROUGHT).get(name)
        assert place, f"{name} is no dependency"
        assert path.match(place), f"{name} belongs into {place}"


def test_dependencies_are_those_that_are_imported():
    listed = PYPROJECT["project"]["dependencies"]
    assert {re.match(r"[a-z]+", line)[0] for line in listed} == FOREIGN.keys() - OPTIONAL.keys()


def test_what_an_extra_brings_is_imported_late_by_one_module():
    extras = PYPROJECT["project"]["optional-dependencies"]
    early = {module: set(imported(path, late=False)) for module, path in MODULES.items()}
    for name, (extra, importer) in OPTIONAL.items():
        assert {re.match(r"[a-z0-9]+", line)[0] for line in extras[extra]} <= OPTIONAL.keys()
        assert set(extras[extra]) <= set(extras["test"])  # else its tests could not run
        users = {module for module, names in early.items() if name in {one.split(".")[0] for one in names}}
        assert users
        while more := {module for module, names in early.items() if names & users} - users:
            users |= more
        assert importer not in users, "it could not say what is missing"
        late = {module for module, path in MODULES.items() if set(imported(path, early=False)) & users}
        assert late == {importer}


@pytest.mark.parametrize("path", SERVER, ids=shown)
def test_nobody_uses_asyncio(path):
    assert "asyncio" not in {name.split(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", BELOW_PEOPLE, ids=shown)
def test_nobody_below_the_commands_prints_reads_the_environment_or_exits(path):
    names = {"print", "input", "exit", "quit", "breakpoint", "SystemExit"}
    attributes = {
        "os": {"environ", "environb", "getenv", "_exit", "abort"},
        "sys": {"exit", "argv", "stdin", "stdout", "stderr"},
    }
    found = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Name) and node.id in names:
            found.append((node.lineno, node.id))
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.attr in attributes.get(node.value.id, ()):
                found.append((node.lineno, f"{node.value.id}.{node.attr}"))
        elif isinstance(node, ast.ImportFrom):
            wrong = attributes.get(node.module or "", set()) & {alias.name for alias in node.names}
            found += [(node.lineno, name) for name in wrong]
    assert not found


# what is pushed

PUSHED = push.PUSHED + push.SNAPSHOTS + push.RESTORE


@pytest.mark.parametrize("path", floor.files(), ids=shown)
def test_pushed_code_keeps_the_floor(path):
    tree(path, feature_version=(3, 6))
    outside = {name.split(".")[0] for name in imported(path)} - {"agent", "blockdiff"}
    assert not outside - sys.stdlib_module_names


def test_pushed_code_calls_nothing_newer_than_the_floor():
    done = floor.vermin()
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_assembler_needs_nothing_of_ours():
    assert not ours(imported(ROOT / "agent/assembler.py"))


def test_the_agent_is_pushed_whole_and_with_nothing_else():
    wanted = {module_of(path) for path in (ROOT / "agent").rglob("*.py")} - {"agent.assembler"}
    todo = list(wanted)
    while todo:
        name = todo.pop()
        parents = {name.rpartition(".")[0]} & MODULES.keys()
        new = (ours(imported(MODULES[name])) | parents) - wanted
        wanted |= new
        todo += new
    assert sorted(name for name, _ in PUSHED) == sorted(wanted)


def test_pushed_modules_come_in_the_order_of_their_need():
    seen = set()
    for name, file in PUSHED:
        assert MODULES[name] == ROOT / file
        parents = {name.rpartition(".")[0]} & MODULES.keys()
        missing = (ours(imported(ROOT / file, late=False)) | parents) - seen - {name}
        assert not missing, f"{name} is pushed before {missing}"
        seen.add(name)


# programs, codes, pages


def test_every_program_has_a_launcher_an_entry_point_and_a_page():
    names = {*programs.PROGRAMS, *ORIGINAL}
    assert {path.name for path in (ROOT / "bin").iterdir()} == names
    assert all(os.access(path, os.X_OK) for path in (ROOT / "bin").iterdir())
    assert PYPROJECT["project"]["scripts"] == dict.fromkeys(names, "blockdiff.commands.programs:main")
    assert not {f"{name}.1" for name in names} - {path.name for path in MAN.iterdir()}


def test_every_page_is_in_the_wheel():
    wheel = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    pages = {f"man/{path.name}": f"share/man/man{path.suffix[1:]}/{path.name}" for path in MAN.glob("*.[0-9]")}
    pages["man/examples"] = "share/doc/blockdiff/examples"
    assert {name: place for name, place in wheel["shared-data"].items() if name.startswith("man/")} == pages


@pytest.mark.parametrize("name", [*programs.PROGRAMS, *ORIGINAL])
def test_every_launcher_runs_its_program(run, name):
    done = run(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: {name} ")


def test_a_launcher_works_through_links_from_anywhere(run, tmp_path):
    first = tmp_path / "first"
    first.symlink_to(ROOT / "bin")
    link = tmp_path / "blockdiff_backup"
    link.symlink_to(first / "blockdiff_backup")
    path = f"{tmp_path}:{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    done = subprocess.run(
        ["blockdiff_backup", "--help"], cwd="/", env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert done.stdout.startswith("Usage: blockdiff_backup "), done.stderr


def test_modules_of_the_current_folder_are_not_taken_for_ours(run, tmp_path):
    for name in ("blockdiff", "click", "json", "os"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')\n")
    assert run("blockdiff-list", "--help", cwd=tmp_path).returncode == 0


def error_classes():
    """Return every class of the error table and those that modules add to it."""
    for module in pkgutil.walk_packages(blockdiff.__path__, "blockdiff."):
        if not module.name.startswith("blockdiff.agent") and "._" not in module.name:  # no agent, nothing in C
            importlib.import_module(module.name)
    found, todo = [], [BlockdiffError, Interrupted]
    while todo:
        found.append(todo.pop())
        todo += found[-1].__subclasses__()
    return found


def test_exit_codes_are_unique_and_no_shell_takes_them_for_something_else():
    codes = Counter(error.exit_code for error in error_classes() if "exit_code" in vars(error))
    assert {code for code, count in codes.items() if count > 1} == set()
    assert 0 not in codes and 2 not in codes and 3 not in codes  # success, wrong usage, warnings
    signals = {128 + number for number in signal.Signals}
    assert all(code < 126 or code in signals for code in codes)
    assert {error.exit_code for error in error_classes() if error.exit_code >= 126} == {Interrupted.exit_code}


def test_exit_codes_are_in_the_manual():
    page = (MAN / "blockdiff.7").read_text()
    section = re.search(r"^\.S[Hh] .*exit (?:status|codes?).*?(?=^\.S[Hh] |\Z)", page, re.M | re.S | re.I)
    assert section, 'blockdiff.7 has no section "Exit codes"'
    printed = {int(number) for number in re.findall(r"(?<![\w.-])\d+(?![\w-])", section[0])}
    assert not {0, 2, 3, 129, 143, *(error.exit_code for error in error_classes())} - printed


def test_a_message_fits_its_class():
    for error in error_classes():
        text = str(error(*["x"] * (error.__doc__.splitlines()[0].count("{}"))))
        first = text.split(" (hint: ")[0]
        assert not first.endswith("."), error
        assert first[0] == first[0].lower(), error


# the house itself


def source_files():
    """Return all text that belongs to the project: what git tracks and what it would."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "-z"], capture_output=True, text=True
    )
    if listed.returncode == 0:
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:  # unpacked from an archive
        paths = [p for p in ROOT.rglob("*") if not {".venv", "__pycache__"} & set(p.parts) and "_cache" not in str(p)]
    return [path for path in paths if path.is_file() and "vectors" not in path.parts]


def test_files_are_short():
    lines = {shown(p): len(p.read_text().splitlines()) for p in python_files("blockdiff", "agent", "tests")}
    assert not {name: count for name, count in lines.items() if count > LONG.get(name, MOST_LINES)}
    assert not {name for name in LONG if lines.get(name, 0) <= MOST_LINES}, "not long any more"


def test_the_project_speaks_of_itself_alone():
    """Nothing hangs on the machine, the folder or the index that it was made with."""
    elsewhere = re.compile(r"/wor[k]/|/hom[e]/\w+/|pythonhoste[d]|pypi\.or[g]|/opt/pyp[i]|file://[/]|/shared/desig[n]")
    found = []
    for path in source_files():
        for number, line in enumerate(path.read_bytes().decode("utf-8", "replace").splitlines(), 1):
            if elsewhere.search(line):
                found.append(f"{shown(path)}:{number}: {line.strip()}")
    assert not found
