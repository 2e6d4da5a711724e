"""pip's cache as a source of bodies: the entry for a URL, if there is one.

Whether its bytes are right is the caller's to check.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from entrepot.httpcache.messages import Headers, ResponseHead
from entrepot.ports.reuse import ReuseSource
from entrepot.ports.tool import Surroundings
from entrepot.tools.pip.httpentry import (
    V1,
    V2,
    Damage,
    entry_name,
    entry_path,
    fresh_until,
    open_region,
    read_meta,
)
from entrepot.tools.pip.interpreters import pips
from entrepot.tools.pip.places import cache_of

SECRET_HEADERS = frozenset(("set-cookie", "set-cookie2", "www-authenticate", "authorization"))
SECRET_VARY = frozenset(("authorization", "cookie", "proxy-authorization"))


@dataclass(frozen=True, slots=True)
class ReusableResponse:
    """A response that pip has stored."""

    path: Path
    """The file that holds the body."""
    offset: int
    """Of the body within it; 0 in ``http-v2``, where the file is the body and may be linked or
    cloned."""
    size: int
    """Bytes of the body as transferred (content coding kept)."""
    head: ResponseHead
    """As stored, less cookies."""
    vary: tuple[tuple[str, str | None], ...]
    """Lower-case names with the values of pip's request; values of credentials are left out."""
    stored: float
    """When pip stored or last validated it, seconds since the epoch."""
    fresh_until: float | None
    credentialed: bool
    """Whether the answer depended on credentials: never for others."""
    tool: str = "pip"
    needs_proof: bool = False
    """Its entry is the URL's own."""

    @property
    def is_whole_file(self) -> bool:
        """Whether the body is a file of its own."""
        return self.path.name.endswith(".body")

    def open(self) -> io.BufferedReader:
        """The body as a stream.

        Raises:
            OSError: it is gone or unreadable.
        """
        return open_region(self.path, self.offset, self.size)


def stored_response(root: Path, url: str) -> ReusableResponse | None:
    """Pip's entry for an absolute URL, the newer layout first.

    ``None`` when there is none, or none that can be read whole.

    Args:
        root: the cache directory.
        url: as pip would have asked for it; credentials and fragment in it do not matter.
    """
    name = entry_name(url)
    every = (_read(entry_path(root, layout, name), layout) for layout in (V2, V1))
    return next((found for found in every if found is not None), None)


def donors(around: Surroundings) -> list[ReuseSource]:
    """The caches of every pip found, as sources of bodies. Source: ``tools/pip/places.py``."""
    roots = dict.fromkeys(cache_of(around, pip) for pip in pips(around))
    return [
        partial(stored_response, root) for root in roots if root is not None and os.path.isdir(root)
    ]


def _read(path: Path, layout: str) -> ReusableResponse | None:
    try:
        meta = read_meta(path, layout)
        if isinstance(meta, Damage):
            return None
        body = Path(f"{path}.body") if layout == V2 else path
        size = body.lstat().st_size if meta.body_size is None else meta.body_size
        stored = path.lstat().st_mtime
    except OSError:
        return None
    if meta.length not in (None, size):
        return None
    vary = tuple((k.lower(), v) for k, v in meta.vary.items() if k.lower() not in SECRET_VARY)
    headers = Headers(line for line in meta.headers if line[0].lower() not in SECRET_HEADERS)
    return ReusableResponse(
        path=body,
        offset=meta.body_offset,
        size=size,
        head=ResponseHead(meta.status, headers, meta.reason),
        vary=vary,
        stored=stored,
        fresh_until=fresh_until(meta.fields, meta.status),
        credentialed=len(vary) != len(meta.vary) or "set-cookie" in meta.fields,
    )
