"""The lists of package caches of conda and mamba, by their own rules: files, variables, defaults.

Source: conda 26.7, ``common/configuration.py`` (``SequenceLoadedParameter.merge``) and
``base/context.py`` (``pkgs_dirs``); each rule was checked against the real program, see
``tests/conda_cases.py``. libmamba 2.8, read, not run: ``#!`` markers are not supported,
``CONDA_PKGS_DIRS`` is the only variable and stands in front.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from entrepot.names import CONDA_SUFFIXES
from entrepot.ports.tool import Surroundings
from entrepot.tools._shared.disk_usage import listed as names_in
from entrepot.tools.conda.condarc import Document, Item, ListValue, documents, files_of, read
from entrepot.tools.conda.platform_paths import expand, pathmod

VARIABLE = "CONDA_PKGS_DIRS"
MAGIC = "urls.txt"
"""The file that makes a directory a package cache."""
SCHEMES = ("https", "http", "file", "oci", "s3", "ftp")
"""First folders of mamba's nested layout: ``CACHE/<scheme>/<host>/<channel>/<subdir>/``."""
_MAMBA_FILES = (".condarc", "condarc", ".mambarc", "mambarc")
_DEEPEST = 8


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
    """The whole answer of one client for one root prefix."""

    root: str
    caches: tuple[Cache, ...]
    defaults: tuple[Cache, ...]
    """What the list would be with nothing configured."""
    problems: tuple[str, ...]
    documents: tuple[Document, ...] = ()
    cut: tuple[Cache, ...] = ()
    """Entries that a ``#!final`` of a weaker source cut off."""
    stops: bool = False
    """Whether conda itself stops at a problem; the list is then what it would be without the broken
    part."""

    @property
    def is_default(self) -> bool:
        """Whether nothing is configured."""
        return self.caches == self.defaults


def from_variable(around: Surroundings) -> ListValue | None:
    """The variable as a source: split at commas, trimmed, blank pieces dropped.

    ``None`` when it is not set.

    A ``!important`` in a list's variable makes the whole source *final*, which cuts off nothing: no
    source is stronger.
    """
    text = around.environ.get(VARIABLE)
    if text is None:
        return None
    pieces = (piece.strip() for piece in text.split(","))
    items = (Item(piece.partition("!important")[0].strip()) for piece in pieces if piece)
    return ListValue(VARIABLE, tuple(items), flag="final" if "!important" in text else "")


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
        around: where to look.
        root: the root prefix; empty when no conda was found.
        force_32bit: the setting of that name: the folder is called ``pkgs32``.
    """
    paths, home = pathmod(around), str(around.home)
    bases = [root, paths.join(home, ".conda")]
    if around.platform == "win32":
        local = around.environ.get("LOCALAPPDATA") or paths.join(home, "AppData", "Local")
        bases.append(paths.join(local, "conda", "conda"))
    return _defaults(bases, "pkgs32" if force_32bit else "pkgs", around)


def _defaults(bases: list[str], name: str, around: Surroundings) -> list[Cache]:
    full = (pathmod(around).join(base, name) for base in bases if base)
    return [Cache(path, path, "default") for path in dict.fromkeys(expand(f, around) for f in full)]


def resolve(around: Surroundings, root: str, prefix: str = "") -> Resolved:
    """Conda's list for one root prefix.

    Args:
        around: where to look.
        root: the root prefix; empty when no conda was found.
        prefix: the environment meant; empty: the active one, else the root.
    """
    found = documents(around, root, prefix)
    usable = [document for document in found if not document.problem]
    listed = [document.lists["pkgs_dirs"] for document in usable if "pkgs_dirs" in document.lists]
    problems = [document.problem for document in found if document.problem]
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
    stops = any(document.fatal for document in found) or any(value.problem for value in listed)
    return Resolved(
        effective,
        tuple(_expanded(merged, around) or defaults),
        tuple(defaults),
        tuple(problems),
        tuple(found),
        tuple(_expanded(cut, around)),
        stops=stops,
    )


def _expanded(pairs: Iterable[tuple[Item, ListValue]], around: Surroundings) -> list[Cache]:
    found: dict[str, Cache] = {}
    for item, source in pairs:
        path, line = expand(item.text, around), item.line or source.line
        where = f"{source.source}:{line}" if line else source.source
        found.setdefault(path, Cache(path, item.text, where, item.flag or source.flag))
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


# -- mamba and micromamba --------------------------------------------------------------------------


def mamba_search_path(around: Surroundings, root: str = "", prefix: str = "") -> list[str]:
    """Files and directories where mamba looks, weakest first; none is looked at.

    With ``MAMBARC`` or ``CONDARC`` set, the first of them stands last.
    """
    environ, paths, home = around.environ, pathmod(around), str(around.home)
    windows = around.platform == "win32"
    system = ["C:\\ProgramData\\conda"] if windows else ["/etc/conda", "/var/lib/conda"]
    conda = (".condarc", "condarc", "condarc.d", ".mambarc")
    mamba = (".mambarc", "mambarc", "mambarc.d")
    xdg = environ.get("XDG_CONFIG_HOME")
    folders: list[tuple[str, tuple[str, ...]]] = [(folder, conda) for folder in (*system, root)]
    for config in (xdg, paths.join(home, ".config")):
        if config:
            folders += [(paths.join(config, "conda"), conda), (paths.join(config, "mamba"), mamba)]
    folders += [(paths.join(home, ".conda"), conda), (home, (".condarc",))]
    folders += [(paths.join(home, ".mamba"), mamba), (home, (".mambarc",)), (prefix, conda)]
    found = dict.fromkeys(
        paths.join(folder, name) for folder, names in folders if folder for name in names
    )
    named = environ.get("MAMBARC") or environ.get("CONDARC")
    return [*found, *([named] if named else [])]


def mamba_documents(around: Surroundings, root: str = "") -> list[Document]:
    """Every file of mamba's that is there, weakest first."""
    target = around.environ.get("CONDA_PREFIX") or root
    found: dict[Path, None] = {}
    for entry in mamba_search_path(around, root, target):
        found.update(dict.fromkeys(files_of(entry, around, _MAMBA_FILES)))
    return [read(path) for path in found]


def resolve_mamba(around: Surroundings, root: str) -> Resolved:
    """Mamba's list for one root prefix.

    Its defaults: ``ROOT/pkgs``, ``~/.mamba/pkgs``, on Windows ``.mamba/pkgs`` in ``%APPDATA%``.
    """
    found = mamba_documents(around, root)
    usable = [document for document in found if not document.problem]
    listed = [document.lists["pkgs_dirs"] for document in usable if "pkgs_dirs" in document.lists]
    variable = from_variable(around)
    unmarked = [
        replace(value, flag="", items=tuple(Item(item.text, item.line) for item in value.items))
        for value in (*listed, *([variable] if variable else ()))
    ]
    paths, home = pathmod(around), str(around.home)
    bases = [root, paths.join(home, ".mamba")]
    if around.platform == "win32":
        roaming = around.environ.get("APPDATA") or paths.join(home, "AppData", "Roaming")
        bases.append(paths.join(roaming, ".mamba"))
    defaults = _defaults(bases, "pkgs", around)
    problems = [document.problem for document in found if document.problem]
    problems += [value.problem for value in listed if value.problem]
    caches = _expanded(merge(unmarked)[0], around) or defaults
    return Resolved(root, tuple(caches), tuple(defaults), tuple(problems), tuple(found))


def nested_folders(cache: Path) -> Iterator[Path]:
    """The folders with packages below ``CACHE/<scheme>/`` (mamba 2.6 and later).

    Each is a package cache of its own, with its ``urls.txt``.
    """
    for scheme in SCHEMES:
        yield from _leaves(cache / scheme, _DEEPEST)


def _leaves(folder: Path, depth: int) -> Iterator[Path]:
    entries = names_in(folder)
    files = {each.name for each in entries if not each.is_dir(follow_symlinks=False)}
    if MAGIC in files or any(name.endswith(CONDA_SUFFIXES) for name in files):
        yield folder
    elif depth:
        for each in entries:
            if each.is_dir(follow_symlinks=False):
                yield from _leaves(Path(each.path), depth - 1)
