"""What a resolver looks at next, told from what it was just given.

Guesses: a wrong one costs a request, never an answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from entrepot.links import Link
from entrepot.names import normalize

MOST_VERSIONS = 500
"""Versions of one project among which the newest is looked for."""
PURE = "-none-any.whl.metadata"


def newest_metadata(links: Iterable[Link]) -> str | None:
    """The metadata file that a resolver asks for first.

    That of the newest final version, if it has one wheel that all can use.

    Which of several platforms' wheels the client takes is not known here; nor are its constraints.

    Args:
        links: of one project's page.

    Returns:
        Its URL; ``None`` when there is none, or no telling which.
    """
    found: dict[str, dict[str, str]] = {}
    for link in links:
        if link.kind == "metadata" and link.version is not None and link.filename is not None:
            found.setdefault(link.version, {}).setdefault(link.filename, link.url)
    newest = _newest(found) if len(found) <= MOST_VERSIONS else None
    if newest is None:
        return None
    files = found[newest]
    chosen = [url for filename, url in files.items() if filename.endswith(PURE)] or list(
        files.values()
    )
    return chosen[0] if len(chosen) == 1 else None


def _newest(versions: Iterable[str]) -> str | None:
    """The greatest final version (PEP 440), else the greatest at all."""
    # Not before a page is read
    from packaging.version import InvalidVersion, Version  # noqa: PLC0415

    parsed = []
    for text in versions:
        try:
            version = Version(text)
        except InvalidVersion:
            continue
        parsed.append((not version.is_prerelease, version, text))
    return max(parsed)[2] if parsed else None


def required_projects(metadata: bytes) -> list[str]:
    r"""The projects that a METADATA file requires without extras, normalized, each once.

    Markers are evaluated for the interpreter that runs this, which is usually the client's too.

    Source: the core metadata specification, ``Requires-Dist``; PEP 508.

    >>> required_projects(b"Name: x\nRequires-Dist: A_b >=1\nRequires-Dist: c; extra == 'test'\n\nRequires-Dist: no")
    ['a-b']
    """
    head = metadata.replace(b"\r\n", b"\n").partition(b"\n\n")[0].decode("utf-8", "replace")
    projects: dict[str, None] = {}
    for line in head.split("\n"):
        found = _REQUIRES(line)
        if found is not None and _applies(found["marker"]):
            projects[normalize(found["name"])] = None
    return list(projects)


_REQUIRES = re.compile(
    r"Requires-Dist:\s*(?P<name>[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)\s*(?:\[[^\]]*\])?\s*(?:\([^)]*\)|[<>=!~][^;@]*)?\s*(?:;(?P<marker>.*))?",
    re.ASCII | re.IGNORECASE,
).fullmatch
"""Requirements of a URL (``name @ https:...``) are left out: no page is asked for them."""


def _applies(marker: str | None) -> bool:
    if marker is None:
        return True
    if "extra" in marker:
        return False
    from packaging.markers import (  # noqa: PLC0415
        InvalidMarker,
        Marker,
        UndefinedComparison,
        UndefinedEnvironmentName,
    )

    try:
        return Marker(marker).evaluate()
    except (InvalidMarker, UndefinedComparison, UndefinedEnvironmentName):
        return False
