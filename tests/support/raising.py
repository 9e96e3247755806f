"""Which of its errors a command can end with: those that a module it imports, at any depth, makes.

Modules that are pushed count where blockdiff.source.push does; an agent's error is made by its name.
"""

import ast
import functools

import places

from blockdiff import errors
from blockdiff.source import push

ROOT = places.ROOT
CLASSES = {
    name: found
    for name, found in vars(errors).items()
    if isinstance(found, type) and issubclass(found, errors.BlockdiffError | errors.Interrupted)
}


# modules that another one imports for what is no way to their errors
PASSED_BY = {
    ("blockdiff.commands.joblist", "blockdiff.commands.backup"): "its parser, which refuses with a usage error",
    ("agent.serve", "agent.target"): "pushed for a restore alone",
    ("agent.serve", "agent.target.restore"): "pushed for a restore alone",
}


def codes_of(module):
    """Return {class name: modules that make it} for a module of blockdiff.commands."""
    found = {}
    for each in reached(f"blockdiff.commands.{module}"):
        if each != "blockdiff.errors":
            for name in made(each):
                found.setdefault(name, []).append(each)
    return found


def reached(module):
    """Return all our modules that a module imports, at any depth."""
    seen, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        if name in seen or _path(name) is None:
            continue
        seen.add(name)
        waiting += [each for each in _imports(name) if (name, each) not in PASSED_BY]
        if name == "blockdiff.source.push":
            waiting += [pushed for pushed, _ in push.PUSHED]
        if name == "blockdiff.source.targetsession":
            waiting += [pushed for pushed, _ in push.RESTORE]
    return seen


@functools.cache
def made(module):
    """Return the names of the errors that a module makes."""
    found = set()
    for node in ast.walk(_tree(module)):
        if not isinstance(node, ast.Call):
            continue
        called = getattr(node.func, "id", None) or getattr(node.func, "attr", None)
        if called in CLASSES:
            found.add(called)
        if called == "AgentError" and node.args and isinstance(node.args[0], ast.Constant):
            found.add(node.args[0].value)
    return found


@functools.cache
def _path(module):
    if module.split(".")[0] not in ("blockdiff", "agent"):
        return None
    base = ROOT.joinpath(*module.split("."))
    return next((path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file()), None)


@functools.cache
def _tree(module):
    return ast.parse(_path(module).read_text())


@functools.cache
def _imports(module):
    package = module if _path(module).name == "__init__.py" else module.rpartition(".")[0]
    found = []
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, (package if node.level else "", node.module)))
            found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return found
