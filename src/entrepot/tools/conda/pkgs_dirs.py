"""Conda's list of package caches, worked out by its own rules from files, variables and defaults.

Source: conda 26.7, ``common/configuration.py`` (``SequenceLoadedParameter.merge``) and
``base/context.py`` (``pkgs_dirs``); each rule was checked against the real program, see
``tests/conda_cases.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from entrepot.ports.tool import Surroundings
from entrepot.tools.conda.condarc import Document, Item, ListValue, documents
from entrepot.tools.conda.platform_paths import expand, pathmod

VARIABLE = "CONDA_PKGS_DIRS"


@dataclass(frozen=True, slots=True)
class Cache:
    """One entry of the list."""

    path: str
    """Absolute, expanded."""
    text: str
    """As written."""
    source: str
    """``PATH:LINE``, a variable or ``default``."""
    flag: str = ""


@dataclass(frozen=True, slots=True)
class Resolved:
    """The whole answer for one root prefix."""

    root: str
    caches: tuple[Cache, ...]
    defaults: tuple[Cache, ...]
    """What the list would be with nothing configured."""
    cut: tuple[Cache, ...]
    """Entries that a ``#!final`` of a weaker source cut off."""
    problems: tuple[str, ...]
    documents: tuple[Document, ...] = ()
    stops: bool = False
    """Whether conda itself stops at a problem; the list is then what it would be without the broken
    part."""

    @property
    def is_default(self) -> bool:
        """Whether nothing is configured."""
        return self.caches == self.defaults


def from_variable(around: Surroundings, name: str = VARIABLE) -> ListValue | None:
    """The variable as a source: split at commas, trimmed, blank pieces dropped.

    ``None`` when it is not set.

    A ``!important`` in a list's variable makes the whole source *final*, which cuts off nothing: no
    source is stronger.
    """
    text = around.environ.get(name)
    if text is None:
        return None
    pieces = (piece.strip() for piece in text.split(","))
    items = (Item(piece.partition("!important")[0].strip()) for piece in pieces if piece)
    return ListValue(name, tuple(items), flag="final" if "!important" in text else "")


def merge(
    sources: Sequence[ListValue],
) -> tuple[list[tuple[Item, ListValue]], list[tuple[Item, ListValue]]]:
    """Merge the sources of a list as conda does.

    Args:
        sources: weakest first.

    Returns:
        Items with their sources, first the one that conda tries first; and those that a ``#!final``
        cut off.
    """
    last = next((n for n, source in enumerate(sources) if source.flag == "final"), len(sources) - 1)
    kept, cut = sources[: last + 1], sources[last + 1 :]
    top = [(item, source) for source in kept for item in source.items if item.flag == "top"]
    bottom = [
        (item, source)
        for source in reversed(kept)
        for item in source.items
        if item.flag == "bottom"
    ]
    everything = [(item, source) for source in reversed(kept) for item in source.items]
    above = _once([*top, *everything])
    merged = list(reversed(_once([*reversed(bottom), *reversed(above)])))
    return merged, [(item, source) for source in reversed(cut) for item in source.items]


def _once(pairs: Iterable[tuple[Item, ListValue]]) -> list[tuple[Item, ListValue]]:
    """Each text once, where it stands first.

    Conda compares what was written and the marker does not count.
    """
    found: dict[str, tuple[Item, ListValue]] = {}
    for pair in pairs:
        found.setdefault(pair[0].text, pair)
    return list(found.values())


def default_caches(around: Surroundings, root: str, *, force_32bit: bool = False) -> list[Cache]:
    """The defaults: ``ROOT/pkgs``, ``~/.conda/pkgs``, and on Windows the user's data directory.

    Args:
        around: the world.
        root: the root prefix; empty when no conda was found.
        force_32bit: the setting of that name: the folder is called ``pkgs32``.
    """
    flavour = pathmod(around)
    name = "pkgs32" if force_32bit else "pkgs"
    bases = [root] if root else []
    bases.append(flavour.join(str(around.home), ".conda"))
    if around.platform == "win32":
        local = around.environ.get("LOCALAPPDATA") or flavour.join(
            str(around.home), "AppData", "Local"
        )
        bases.append(flavour.join(local, "conda", "conda"))
    paths = dict.fromkeys(expand(flavour.join(base, name), around) for base in bases)
    return [Cache(path, path, "default") for path in paths]


def resolve(around: Surroundings, root: str, prefix: str = "") -> Resolved:
    """The list for one root prefix.

    Args:
        around: the world.
        root: the root prefix; empty when no conda was found.
        prefix: the environment meant; empty: the active one, else the root.
    """
    read = documents(around, root, prefix)
    usable = [document for document in read if not document.problem]
    listed = [document.lists["pkgs_dirs"] for document in usable if "pkgs_dirs" in document.lists]
    problems = [document.problem for document in read if document.problem]
    problems += [value.problem for value in listed if value.problem]
    variable = from_variable(around)
    sources = [value for value in listed if not value.problem] + ([variable] if variable else [])
    merged, cut = merge(sources)
    # conda lists it and fails at the first look: no file system has such a name
    problems += [
        f"{source.source}:{item.line}: an entry holds a NUL"
        for item, source in merged
        if "\0" in item.text
    ]
    merged = [(item, source) for item, source in merged if "\0" not in item.text]
    configured_root = _scalar(around, usable, "root_prefix") or _scalar(around, usable, "root_dir")
    effective = expand(configured_root, around) if configured_root else root
    force = _scalar(around, usable, "force_32bit").lower() in ("true", "yes", "on", "1")
    defaults = default_caches(around, effective, force_32bit=force)
    caches = _expanded(merged, around) or defaults
    stops = any(document.fatal for document in read) or any(value.problem for value in listed)
    return Resolved(
        effective,
        tuple(caches),
        tuple(defaults),
        tuple(_expanded(cut, around)),
        tuple(problems),
        tuple(read),
        stops=stops,
    )


def _expanded(pairs: Iterable[tuple[Item, ListValue]], around: Surroundings) -> list[Cache]:
    found: dict[str, Cache] = {}
    for item, source in pairs:
        path = expand(item.text, around)
        name = (
            f"{source.source}:{item.line or source.line}"
            if item.line or source.line
            else source.source
        )
        found.setdefault(path, Cache(path, item.text, name, item.flag or source.flag))
    return list(found.values())


def _scalar(around: Surroundings, usable: Sequence[Document], key: str) -> str:
    """A scalar in force as text.

    The variable wins over files, the last file over those before; empty when unset.
    """
    value = around.environ.get(f"CONDA_{key.upper()}", "").strip()
    if value:
        return value
    for document in reversed(usable):
        found = document.values.get(key)
        if found is not None and not isinstance(found, list | dict):
            return str(found)
    return ""


def variable_traps(around: Surroundings) -> list[str]:
    """What is odd about ``CONDA_PKGS_DIRS``, a sentence a thing."""
    text = around.environ.get(VARIABLE, "")
    found = []
    if around.platform != "win32" and ":" in text:
        found.append(
            f"{VARIABLE} holds a colon: conda separates by commas, so {text!r} is one directory "
            "with a colon in its name"
        )
    if around.platform == "win32" and ";" in text:
        found.append(f"{VARIABLE} holds a semicolon: conda separates by commas")
    return found
