"""Reuse of conda's and mamba's archives: found by file name alone, so a digest must prove each.

They are never linked: ``conda clean`` leaves archives with a second link alone, for ever.
"""

from __future__ import annotations

import io
import stat
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from entrepot.httpcache.messages import Headers, ResponseHead
from entrepot.names import CONDA_SUFFIXES, filename_of
from entrepot.ports.reuse import ReuseSource
from entrepot.ports.tool import Surroundings
from entrepot.urls import canonical_url


@dataclass(frozen=True, slots=True)
class ReusableResponse:
    """An archive that lies in a cache under the name that is asked for."""

    path: Path
    size: int
    stored: float
    """When it was written, seconds since the epoch."""
    offset: int = 0
    vary: tuple[tuple[str, str | None], ...] = ()
    credentialed: bool = False
    tool: str = "conda"
    needs_proof: bool = True
    """Two channels may give one name to different archives."""

    @property
    def is_whole_file(self) -> bool:
        """Never to be linked: see the top."""
        return False

    @property
    def head(self) -> ResponseHead:
        """What an origin would have said at least; conda keeps nothing of what it did say."""
        lines = [("Content-Type", "application/octet-stream"), ("Content-Length", str(self.size))]
        return ResponseHead(200, Headers(lines), "OK")

    def open(self) -> io.BufferedReader:
        """The body as a stream.

        Raises:
            OSError: it is gone or unreadable.
        """
        return self.path.open("rb")


def donors(around: Surroundings) -> list[ReuseSource]:
    """All caches of conda and mamba that are known, as one source.

    They are looked for when the first archive is asked for: other runs do without.
    """

    @cache
    def folders() -> list[Path]:
        # -- 20 ms that an install by pip can do without
        from entrepot.tools.conda.environments import package_folders  # noqa: PLC0415

        return package_folders(around)

    def find(url: str) -> ReusableResponse | None:
        """What lies under the URL's file name; of several that of this URL, else the first."""
        name = filename_of(url)
        if not name.endswith(CONDA_SUFFIXES):
            return None
        found = []
        for folder in folders():
            with suppress(OSError):
                about = (folder / name).lstat()
                if stat.S_ISREG(about.st_mode) and about.st_size:
                    found.append(ReusableResponse(folder / name, about.st_size, about.st_mtime))
        if len(found) > 1:
            from entrepot.tools.conda.urls import read_urls  # noqa: PLC0415 -- as above

            for each in found:
                logged = read_urls(each.path.parent, [name]).by_name.get(name, "")
                if canonical_url(logged) == canonical_url(url):
                    return each
        return found[0] if found else None

    return [find]
