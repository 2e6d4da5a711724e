"""What the modules may know of each other.

A layer may import those to its right, never one to its left:

    cli -> server, run -> serving, caches -> ports -> the domain -> errors
    store, upstream, tools -> ports and the domain

What is imported for the type checker alone counts: a name that is only read there still ties two
layers together. Where the product does not keep a rule yet, the exceptions are listed in a constant
named ``KNOWN_...`` and the list must be exact, so that it can only shrink.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src"
PACKAGE = "entrepot"

DOMAIN = frozenset(
    "httpcache simple channel worker_pool lockfiles eviction names digests stored sizes links "
    "fs urls redaction edits cache_root".split(),
)
"""Packages and modules that hold values and rules and know neither ports nor adapters."""
ADAPTERS = frozenset({"store", "upstream", "tools"})
SETTINGS = frozenset({"config"})
"""Where settings are read: for the assemblers alone."""
ASSEMBLERS = ("cli", "server.wiring")
"""The only ones that pick adapters and read settings."""
SHARED_BY_TOOLS = frozenset({"_shared", "client_setup"})
"""Folders that hold what several tools share; they import no tool's folder."""
FRONT = frozenset({"", "__main__"})

MAY_IMPORT: Mapping[str, frozenset[str]] = {
    "errors": frozenset(),
    "domain": frozenset({"domain", "errors"}),
    "ports": frozenset({"ports", "domain", "errors"}),
    "settings": frozenset({"settings", "ports", "domain", "errors"}),
    "store": frozenset({"store", "ports", "domain", "errors"}),
    "upstream": frozenset({"upstream", "ports", "domain", "errors"}),
    "tools": frozenset({"tools", "ports", "domain", "errors"}),
    "serving": frozenset({"serving", "ports", "domain", "errors"}),
    "caches": frozenset({"caches", "serving", "ports", "domain", "errors"}),
    "run": frozenset({"run", "serving", "ports", "domain", "errors"}),
    "server": frozenset({"server", "run", "serving", "ports", "domain", "errors", "front"}),
    "cli": frozenset(
        {"cli", "server", "run", "serving", "caches", "ports", "domain", "errors", "front"}
    ),
    "front": frozenset({"front", "cli"}),
    "testing": frozenset({"testing", "store", "ports", "domain", "errors"}),
}
"""A layer and the layers it may import from; assemblers may also import adapters and settings."""


@dataclass(frozen=True, slots=True)
class Import:
    """One import statement's arrow, from module to module, both without the package's name."""

    importer: str
    imported: str
    names: tuple[str, ...]
    line: int


def layer(module: str) -> str:
    """The layer of a module (named without the package).

    Raises:
        KeyError: it has none yet.
    """
    first = module.partition(".")[0]
    if first in FRONT:
        return "front"
    if first in DOMAIN:
        return "domain"
    if first in SETTINGS:
        return "settings"
    if first in MAY_IMPORT:
        return first
    raise KeyError(f"the module {first!r} has no layer yet: give it one in {Path(__file__).name}")


def imports(source: str, module: str, modules: frozenset[str]) -> Iterator[Import]:
    """Every arrow within the package, late imports and those under TYPE_CHECKING too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == PACKAGE:
                    yield Import(module, alias.name.partition(".")[2], (), node.lineno)
        elif isinstance(node, ast.ImportFrom):
            target = _absolute(node, module, modules)
            if target is None:
                continue
            for alias in (
                node.names
            ):  # `from entrepot.serving import service` names the module entrepot.serving.service
                deeper = f"{target}.{alias.name}".strip(".")
                yield Import(
                    module, deeper if deeper in modules else target, (alias.name,), node.lineno
                )


def _absolute(node: ast.ImportFrom, module: str, modules: frozenset[str]) -> str | None:
    if node.level:
        is_package = any(other.startswith(f"{module}.") for other in modules)
        parts = [PACKAGE, *filter(None, module.split("."))]
        parts = parts[: len(parts) - node.level + is_package]
        return ".".join([*parts[1:], *filter(None, [node.module])])
    first, _, rest = (node.module or "").partition(".")
    return rest if first == PACKAGE else None


def complaint(arrow: Import) -> str | None:
    """Why this arrow may not be; ``None`` when it may."""
    here, there = layer(arrow.importer), layer(arrow.imported)
    if here != there and there == "testing":
        return "nothing but tests imports testing"
    if not _may(arrow.importer, here, there):
        return f"{here} may not import {there}"
    if here == there == "tools":
        return _tool_complaint(arrow)
    secret = [
        name
        for name in (*arrow.names, *arrow.imported.split("."))
        if name.startswith("_") and not name.startswith("__") and name != "_shared"
    ]
    if here != there and secret:
        return f"{secret[0]} is {there}'s own business"
    return None


def _may(importer: str, here: str, there: str) -> bool:
    if there in MAY_IMPORT[here]:
        return True
    assembles = any(importer == name or importer.startswith(f"{name}.") for name in ASSEMBLERS)
    return assembles and (there in ADAPTERS or there == "settings")


def _tool_complaint(arrow: Import) -> str | None:
    """A tool's folder is its own; what all share imports none of them, but for the registry."""
    rooms = [_room(module) for module in (arrow.importer, arrow.imported)]
    if rooms[1] is None or rooms[0] == rooms[1] or arrow.importer == "tools.registry":
        return None
    return f"the tool {rooms[1]} is known to itself and to tools.registry alone"


def _room(module: str) -> str | None:
    parts = module.split(".")
    is_room = (
        len(parts) > 1
        and parts[1] not in SHARED_BY_TOOLS
        and (SOURCE / PACKAGE / "tools" / parts[1]).is_dir()
    )
    return parts[1] if is_room else None


def modules_of(root: Path) -> dict[str, Path]:
    """Every module of the package, by its name without the package's."""
    found = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = list(path.relative_to(root / PACKAGE).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules_of(SOURCE)


def complaints(source: str, module: str) -> list[str]:
    """All that is wrong with a module's imports, a line each."""
    arrows = imports(source, module, frozenset(MODULES))
    return [
        f"line {a.line}: {module} -> {a.imported}: {why}"
        for a in arrows
        if (why := complaint(a)) is not None
    ]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module or PACKAGE)
def test_no_arrow_runs_the_wrong_way(module: str):
    assert complaints(MODULES[module].read_text(encoding="utf-8"), module) == []


BAD = {
    "serving picks a store": (
        "serving.service",
        "from entrepot.store.directory import DirectoryStore",
    ),
    "serving knows the server": ("serving.service", "import entrepot.server.proxy"),
    "serving reads settings": ("run.plan", "from entrepot.config.settings import Settings"),
    "the domain knows a port": ("httpcache.policy", "from entrepot.ports.clock import Clock"),
    "errors know the domain": ("errors", "from entrepot.digests import Digest"),
    "a port knows the app": ("ports.tool", "from entrepot.serving.service import Service"),
    "a store knows the app, for types only": (
        "store.null",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from entrepot.serving.transfer import Transfer",
    ),
    "a store knows an upstream": (
        "store.directory",
        "def late():\n    from entrepot.upstream import client",
    ),
    "a tool knows another tool": (
        "tools.client_setup.clients",
        "from entrepot.tools.uv import places",
    ),
    "what all tools share knows one of them": (
        "tools.client_setup.proxy_environment",
        "import entrepot.tools.pip.cache",
    ),
    "a tool knows the command line": ("tools.pip.cache", "from entrepot.cli.output import Output"),
    "the server picks a client outside its wiring": (
        "server.proxy",
        "from entrepot.upstream.client import HttpUpstream",
    ),
    "the server knows the command line": (
        "server.listener",
        "from entrepot.cli.context import Context",
    ),
    "serving imports testing": ("serving.service", "from entrepot.testing.origin import Origin"),
    "the command line imports testing": ("cli.cmd_run", "from entrepot.testing import origin"),
    "an adapter takes a port's private name": (
        "store.null",
        "from entrepot.ports.store import _Secret",
    ),
    "a relative import goes left": ("serving.service", "from ..server import proxy"),
    "the package is imported as a whole to get at a layer": (
        "serving.service",
        "from entrepot import cli",
    ),
}


@pytest.mark.parametrize(("module", "source"), BAD.values(), ids=BAD)
def test_a_wrong_arrow_is_found(module: str, source: str):
    assert len(complaints(source, module)) == 1


GOOD = {
    "the command line assembles": (
        "cli.wiring",
        "from entrepot.store.directory import DirectoryStore\nimport entrepot.config.settings",
    ),
    "the server's wiring assembles": (
        "server.wiring",
        "from entrepot.upstream.client import HttpUpstream",
    ),
    "serving knows ports and domain": (
        "serving.service",
        "from entrepot.ports.store import Store\nfrom entrepot.httpcache import lookup",
    ),
    "a tool knows its own room and what all share": (
        "tools.client_setup.clients",
        "from entrepot.tools._shared import safe_read",
    ),
    "the registry knows every tool": (
        "tools.registry",
        "from entrepot.tools.client_setup.clients import client_setups",
    ),
    "another package with a name alike": ("serving.service", "import entrepots.server"),
}


@pytest.mark.parametrize(("module", "source"), GOOD.values(), ids=GOOD)
def test_a_right_arrow_passes(module: str, source: str):
    assert complaints(source, module) == []


def test_a_module_without_a_layer_is_named():
    with pytest.raises(KeyError, match="'newcomer' has no layer"):
        layer("newcomer.things")


STORE_FILES = re.compile(r"entrepot-store|flights|^catalogue.*\.sqlite")
"""Names of the store's own files; ``bodies/`` and ``heads/`` begin keys."""


def strings(source: str) -> Iterator[str]:
    """Every string of a module but docstrings."""
    tree = ast.parse(source)
    texts = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts:
            yield node.value


def test_the_names_of_the_stores_files_are_known_to_its_layout_alone():
    assert list(strings('"""flights"""\nx = f"{y}/flights"')) == ["/flights"]
    knowing = {
        module
        for module, path in MODULES.items()
        for text in strings(path.read_text(encoding="utf-8"))
        if STORE_FILES.search(text)
    }
    assert knowing == {"store.layout"}


def broken_words(source: str) -> list[str]:
    """Words of ``"one two".split()`` that a line's end has cut in two, or glued together."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "split"
            and not node.args
        ):
            continue
        text = node.func.value
        if isinstance(text, ast.Constant) and isinstance(text.value, str):
            found += [word for word in text.value.split() if word.endswith(("-", "_"))]
            parts = re.findall(r'"([^"]*)"', ast.get_source_segment(source, text) or "")
            found += [left for left in parts[:-1] if not left.endswith(" ")]
    return found


def test_no_list_of_words_is_broken_where_its_line_is():
    assert broken_words('("one two no-build- "\n "isolation").split()') == ["no-build-"]
    assert broken_words('("one two"\n "three").split()') == ["one two"]
    broken = {
        path: words
        for path in SOURCE.rglob("*.py")
        if (words := broken_words(path.read_text("utf-8")))
    }
    assert broken == {}


# Circles


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Modules that import each other, directly or through others, each group sorted."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = list(graph.get(start, ()))
        while waiting:
            module = waiting.pop()
            if module not in seen:
                seen.add(module)
                waiting += graph.get(module, ())
        return seen

    reach = {module: reached(module) for module in graph}
    groups = {
        tuple(sorted(other for other in reach[module] if module in reach.get(other, ())))
        for module in graph
        if module in reach[module]
    }
    return sorted(map(list, groups))


def import_graph() -> dict[str, set[str]]:
    """Each module's imports, those of its own package and of what lies in it left out."""
    return {
        module: {
            arrow.imported
            for arrow in imports(path.read_text("utf-8"), module, frozenset(MODULES))
            if not f"{module}.".startswith(f"{arrow.imported}.") and arrow.imported
            if not f"{arrow.imported}.".startswith(f"{module}.")
        }
        for module, path in MODULES.items()
    }


def test_no_modules_import_each_other():
    assert circles(import_graph()) == []


def test_a_circle_is_found():
    graph = {"a": {"b", "x"}, "b": {"c"}, "c": {"a"}, "x": {"y"}, "y": set(), "z": {"z2"}}
    assert circles(graph | {"z2": {"z"}}) == [["a", "b", "c"], ["z", "z2"]]


# Purity

PURE = ("httpcache", "simple", "channel", "lockfiles")
"""Bytes and values in, values out."""
IMPURE = frozenset("os asyncio time logging socket sqlite3".split())


def impure_imports(source: str) -> list[str]:
    """The modules of the standard library in a source that do I/O or know the time."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").partition(".")[0])
    return sorted(found & IMPURE)


@pytest.mark.parametrize("module", [m for m in MODULES if m.partition(".")[0] in PURE])
def test_what_is_pure_imports_nothing_that_does_io_or_knows_the_time(module: str):
    assert impure_imports(MODULES[module].read_text("utf-8")) == []


def test_an_impure_import_is_found():
    late = "def work():\n    from os.path import join\n    import asyncio as a, json"
    assert impure_imports(late) == ["asyncio", "os"]


# Adapters

PICKERS = frozenset({"cli.wiring", "server.wiring"})
"""One module of ``cli`` and one of ``server`` pick adapters."""
KNOWN_PICKERS = frozenset("cli.cmd_warm cli.warming".split())


def test_adapters_are_picked_in_one_module_of_cli_and_one_of_server():
    pickers = {
        module
        for module, imported in import_graph().items()
        if layer(module) in {"cli", "server"} and any(layer(m) in ADAPTERS for m in imported)
    }
    assert pickers - PICKERS == KNOWN_PICKERS


# Names of the store's files


STORE_NAMES = re.compile(
    r"(?:flights|locks|boot|bodies|heads)(?:/.*)?|entrepot-store|.*\.(?:part|note)|catalogue.*\.sqlite"
    r"|catalogue-|\.lock"
)
KEY_MAKERS = frozenset({"store.layout", "stored"})
"""Where the store's file names stand, and where keys are made."""
WITH_A_STORE = frozenset({"ports", "store", "serving", "caches", "server", "run", "cli"})
KNOWN_STORE_NAMES = {"caches.verify": "bodies heads"}
"""Folders of keys, by which it lists them."""


def texts(source: str) -> set[str]:
    """Every string of a source that is no docstring; of f-strings, the constant parts."""
    tree = ast.parse(source)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if id(node) not in docstrings
    }


def test_the_names_of_the_stores_files_stand_in_its_layout_alone():
    found = {
        module: " ".join(sorted(filter(STORE_NAMES.fullmatch, texts(path.read_text("utf-8")))))
        for module, path in MODULES.items()
        if module.partition(".")[0] in WITH_A_STORE and module not in KEY_MAKERS
    }
    assert {module: names for module, names in found.items() if names} == KNOWN_STORE_NAMES


def test_a_name_of_the_store_is_found_and_a_docstring_is_none():
    source = '"""flights"""\npath = f"{root}/x" + ".part"\nother = root / "boot"\n"locks"'
    assert set(filter(STORE_NAMES.fullmatch, texts(source))) == {".part", "boot"}


# Fakes

CONTRACTS = Path(__file__).parent / "contract"
GIVEN = frozenset({"Blob", "PartialFile", "Answer"})
"""Ports whose objects another port gives: its contract checks them."""


@dataclass(frozen=True, slots=True)
class Class:
    """A class as its source shows it."""

    name: str
    bases: tuple[str, ...]
    members: frozenset[str]


def classes(source: str) -> Iterator[Class]:
    """Every class with its public methods and the attributes that it sets."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            members = {n.name for n in node.body if isinstance(n, FUNCTIONS)}
            members |= {n.id for n in map(_target, node.body) if isinstance(n, ast.Name)}
            members |= {
                n.attr
                for n in ast.walk(node)
                if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)
            }
            public = frozenset(name for name in members if not name.startswith("_"))
            yield Class(node.name, tuple(map(ast.unparse, node.bases)), public)


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def _target(node: ast.stmt) -> ast.expr | None:
    if isinstance(node, ast.AnnAssign):
        return node.target
    return node.targets[0] if isinstance(node, ast.Assign) else None


def fakes(ports: Iterable[Class], others: Iterable[Class]) -> dict[str, str]:
    """The classes that have all that a port asks for, each with that port.

    A port that asks for one thing is left out: any class may have that. So is one that is part of
    another port, and a subclass of a fake, which inherits that it was checked.
    """
    ports, others = list(ports), list(others)
    parts = {base for port in ports for base in port.bases} | GIVEN
    found = {}
    for port in ports:
        asked = _with_bases(port, ports)
        if "Protocol" in port.bases and port.name not in parts and len(asked) > 1:
            every = [*others, *ports]  # a fake may inherit what a port answers by itself
            found |= {each.name: port.name for each in others if asked <= _with_bases(each, every)}
    inherit = {each.name for each in others if found.keys() & set(each.bases)}
    return {name: port for name, port in found.items() if name not in inherit}


def _with_bases(one: Class, all_of_them: list[Class]) -> frozenset[str]:
    bases = (each for each in all_of_them if each.name in one.bases and each.name != one.name)
    return one.members.union(*(_with_bases(base, all_of_them) for base in bases))


def _classes_in(*folders: Path) -> Iterator[Class]:
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            yield from classes(path.read_text("utf-8"))


def test_every_fake_of_a_port_passes_that_ports_contract():
    root = SOURCE / PACKAGE
    found = fakes(_classes_in(root / "ports"), _classes_in(CONTRACTS.parent, root / "testing"))
    checked = "\n".join(path.read_text("utf-8") for path in CONTRACTS.glob("*.py"))
    left = {name: port for name, port in found.items() if not re.search(rf"\b{name}\b", checked)}
    assert {"ManualClock": "Clock", "ScriptedUpstream": "Upstream"}.items() <= found.items()
    assert left == {}


def test_a_fake_is_known_by_what_it_has():
    port = "class Half(Protocol):\n a: int\n def b(self): ...\nclass Port(Half, Protocol):\n c = 1"
    fake = "class Base:\n def __init__(self):\n  self.a = 1\nclass Fake(Base):\n b = c = 2"
    fake = fake.replace("b = c = 2", "c = 2\n def b(self): ...")
    other = "class Other:\n def b(self): ...\n c = 2\nclass Sub(Fake): ..."
    found = fakes(classes(port), [*classes(fake), *classes(other)])
    assert found == {"Fake": "Port"}
