"""Project names and the file names of wheels, sdists and conda archives, as frozen values.

No I/O, and nothing raises, because what is read comes from remote pages. ``packaging`` is imported
late: its parser costs tens of milliseconds at start-up, and most names never need it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote

SDIST_SUFFIXES = tuple(
    ".tar.gz .zip .tar.bz2 .tgz .tar.xz .tar.lzma .tar.Z .tar .tlz .tbz .txz".split()
)
"""How source archives end; only the first two are still accepted by indexes, all are still
installed (pip 26.3)."""

CONDA_SUFFIXES = (".conda", ".tar.bz2")
"""How conda's archives end."""

SUFFIXES = (".whl", *SDIST_SUFFIXES, ".conda", ".egg", ".exe", ".msi", ".rpm", ".deb", ".dmg")
"""How the files of distributions end, including those that no tool installs any more."""


@dataclass(frozen=True, slots=True)
class FileName:
    """A distribution's file name, taken apart."""

    kind: str
    """``wheel``, ``sdist``, ``archive`` (conda) or ``metadata``: values of ``ports.tool.Kind``."""
    project: str
    """Normalized name (PEP 503); a conda package's own name in lower case."""
    version: str
    """Normalized (PEP 440) where it can be; a conda package's as written."""
    filename: str
    """The whole name, as given."""
    tags: str = ""
    """A wheel's ``python-abi-platform``, or conda's build string."""
    build: str = ""
    """A wheel's build tag."""


def normalize(name: str) -> str:
    """The normalized name of a project: lower case, each run of ``-``, ``_`` and ``.`` one dash.

    Source: PEP 503.

    >>> normalize("Foo_.Bar")
    'foo-bar'
    """
    name = name.lower().replace("_", "-").replace(".", "-")
    while "--" in name:
        name = name.replace("--", "-")
    return name


def filename_of(url: str) -> str:
    """The last path segment of a URL, percent-decoded.

    Empty when there is none that could be a plain file name.

    >>> filename_of("https://files.test/a/torch-1.0%2Bcpu.tar.gz?x=1#sha256=ab")
    'torch-1.0+cpu.tar.gz'
    """
    path = url.partition("#")[0].partition("?")[0]
    _, found, rest = path.partition("://")
    name = (rest.partition("/")[2] if found else path).rpartition("/")[2]
    if "%" in name:
        # An escaped slash is a slash to pip, which takes what follows it; anything else of the kind
        # is no file name.
        name = unquote(name).rpartition("/")[2]
    return name if is_plain_filename(name) else ""


def is_plain_filename(name: str) -> bool:
    """Whether a name could be a file in one directory.

    No separator, no control character, not ``..``, not overlong.
    """
    return name not in {"", ".", ".."} and len(name) <= _LONGEST and not _UNSAFE(name)


def classify(filename: str, *, project: str | None = None) -> FileName | None:
    """What a file name says, or ``None`` when it is no distribution's. Never raises.

    Args:
        filename: a plain file name; ``.metadata`` siblings are understood.
        project: normalized name of the project that lists the file, if known. It tells where an old
            sdist's name ends and its version begins (``a-b-1.0-1.tar.gz``), and an sdist in
            ``.tar.bz2`` from a conda archive.

    >>> classify("Foo_Bar-1.0-py3-none-any.whl").project
    'foo-bar'
    """
    if not is_plain_filename(filename):
        return None
    if filename.endswith(".whl"):
        return _wheel(filename, filename[:-4], project)
    if filename.endswith(".metadata"):
        wheel = classify(filename[:-9], project=project)
        if wheel is None or wheel.kind == "metadata":
            return None
        return FileName("metadata", wheel.project, wheel.version, filename, wheel.tags, wheel.build)
    if filename.endswith(".conda"):
        return _conda(filename, filename[:-6])
    if (
        filename.endswith(".tar.bz2")
        and project is None
        and (found := _conda(filename, filename[:-8]))
    ):
        return found
    suffix = next((s for s in SDIST_SUFFIXES if filename.endswith(s)), None)
    return _sdist(filename, filename[: -len(suffix)], project) if suffix else None


@lru_cache(maxsize=4096)
def normal_version(version: str) -> str | None:
    """The version as PEP 440 normalizes it; ``None`` when it is no such version. Never raises.

    >>> normal_version("2024.01.05"), normal_version("1.0-1"), normal_version("2004d")
    ('2024.1.5', '1.0.post1', None)
    """
    if _IS_NORMAL(version):
        return version
    if len(version) > _LONGEST or not _MAY_BE_VERSION(version):
        return None
    from packaging.version import Version  # noqa: PLC0415 - late: see the top

    try:
        return str(Version(version))
    except ValueError:
        return None


_LONGEST = 400
"""Characters; no file system takes a longer name, and version parsing is not linear."""
_UNSAFE = re.compile(r"[\x00-\x1f\x7f/\\\ud800-\udfff]").search
_IS_NORMAL = re.compile(
    r"N(\.N)*((a|b|rc)N)?(\.postN)?(\.devN)?(\+L(\.L)*)?".replace("N", r"(?:0|[1-9]\d*)").replace(
        "L", r"(?:0|[1-9]\d*|\d*[a-z][a-z0-9]*)"
    ),
    re.ASCII,
).fullmatch
_MAY_BE_VERSION = re.compile(r"\s*v?\d", re.ASCII | re.IGNORECASE).match
_WHEEL = re.compile(r"([\w.]+)-([\w.+!]+)(?:-(\d[\w.]*))?-([\w.]+-[\w.]+-[\w.]+)").fullmatch
_CONDA = re.compile(r"([\w.\-]+?)-([\w.!+]*\d[\w.!+]*)-([\w.+]+)", re.ASCII).fullmatch
_DOTTED_NUMBER = re.compile(r"v?\d+(\.\d+)+", re.ASCII).match


def _wheel(filename: str, stem: str, project: str | None) -> FileName | None:
    match = _WHEEL(stem)
    if match is None:
        return None
    name, raw, build, tags = match.groups()
    # Some old tools wrote the dash of a version as an underscore.
    version = normal_version(raw) or normal_version(raw.replace("_", "-"))
    if version is None:
        return None
    return FileName("wheel", project or normalize(name), version, filename, tags, build or "")


def _conda(filename: str, stem: str) -> FileName | None:
    match = _CONDA(stem)
    if match is None:
        return None
    name, version, build = match.groups()
    if filename.endswith(".tar.bz2") and (_DOTTED_NUMBER(build) or not version[0].isdigit()):
        return None  # ``name-2-1.0.tar.bz2`` and ``my-pkg-1.0.tar.bz2`` are source archives
    return FileName("archive", name.lower(), version, filename, build)


def _sdist(filename: str, stem: str, project: str | None) -> FileName | None:
    cuts = [i for i, c in enumerate(stem) if c == "-" and 0 < i < len(stem) - 1]
    if project is not None:
        for cut in cuts:
            if normalize(stem[:cut]) == project:
                raw = stem[cut + 1 :]
                return FileName("sdist", project, normal_version(raw) or raw, filename)
    for cut in reversed(cuts):
        version = normal_version(stem[cut + 1 :])
        if version is not None:
            return FileName("sdist", project or normalize(stem[:cut]), version, filename)
    if cuts and stem[cuts[-1] + 1].isdigit():
        # Versions from before PEP 440 (``2004d``) are still listed.
        return FileName(
            "sdist", project or normalize(stem[: cuts[-1]]), stem[cuts[-1] + 1 :], filename
        )
    return None
