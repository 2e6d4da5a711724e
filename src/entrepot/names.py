"""Project names and the file names of wheels, sdists and conda archives, as frozen values.

No I/O. :func:`classify` never raises, because what it reads comes from remote pages; the ``parse_``
functions are for names that a person gave, and raise. ``packaging`` is imported late: its parser
costs tens of milliseconds at start-up, and most names never need it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote

from entrepot.errors import InvalidFilename

SDIST_SUFFIXES = (
    ".tar.gz",
    ".zip",
    ".tar.bz2",
    ".tgz",
    ".tar.xz",
    ".tar.lzma",
    ".tar.Z",
    ".tar",
    ".tlz",
    ".tbz",
    ".txz",
)
"""How source archives end; only the first two are still accepted by indexes, all are still
installed (pip 26.3)."""

CONDA_SUFFIXES = (".conda", ".tar.bz2")
"""How conda's archives end."""

SUFFIXES = (".whl", *SDIST_SUFFIXES, ".conda", ".egg", ".exe", ".msi", ".rpm", ".deb", ".dmg")
"""How the files of distributions end, those included that nobody installs any more."""


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


def parse_wheel_filename(filename: str) -> FileName:
    """A wheel's file name, by the letter of the specification.

    Raises:
        InvalidFilename: it is none.

    Source: the binary distribution format (PEP 427, PEP 491), through ``packaging``.
    """
    from packaging import utils  # noqa: PLC0415 - late: see the top

    try:
        name, version, _, _ = utils.parse_wheel_filename(filename)
    except ValueError as exc:
        raise InvalidFilename(str(exc), text=filename) from exc
    parts = filename[:-4].split("-")
    return FileName(
        "wheel",
        str(name),
        str(version),
        filename,
        "-".join(parts[-3:]),
        parts[2] if len(parts) == 6 else "",
    )


def parse_sdist_filename(filename: str) -> FileName:
    """An sdist's file name, by the letter of the specification.

    ``.tar.gz`` or ``.zip``, the version after the last dash.

    Raises:
        InvalidFilename: it is none.

    Source: the source distribution format (PEP 625), through ``packaging``.
    """
    from packaging import utils  # noqa: PLC0415 - late: see the top

    try:
        name, version = utils.parse_sdist_filename(filename)
    except ValueError as exc:
        raise InvalidFilename(str(exc), text=filename) from exc
    return FileName("sdist", str(name), str(version), filename)


def parse_conda_filename(filename: str) -> FileName:
    """A conda archive's file name: ``name-version-build`` with ``.conda`` or ``.tar.bz2``.

    Raises:
        InvalidFilename: it is none.
    """
    stem = next((filename[: -len(s)] for s in CONDA_SUFFIXES if filename.endswith(s)), "")
    if found := _conda(filename, stem):
        return found
    raise InvalidFilename(
        f"{filename!r} is not name-version-build.conda or .tar.bz2", text=filename
    )


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
