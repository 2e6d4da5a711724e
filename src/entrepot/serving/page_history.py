"""Which pages were asked for together, remembered from run to run.

No requests here: ``ahead.py`` makes them.
"""

from __future__ import annotations

import os.path
from collections.abc import Iterable, Sequence

from entrepot.links import Link
from entrepot.ports.catalogue import Catalogue
from entrepot.stored import has_secret

MOST = 256
"""Pages of one run that are remembered."""


class Company:
    """The pages that one run asked for, by each of them; kept in the catalogue, and lossy.

    Only URLs, and none with a credential in it: the store's heads name the same ones.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def of(self, url: str) -> Sequence[str]:
        """The pages of the last run that asked for this one, this one among them."""
        link = self._catalogue.link(_mark(url))
        start, *rest = link.source.split("\n") if link is not None else [""]
        return [start + each for each in rest]

    def remember(self, urls: Iterable[str]) -> None:
        """These were asked for in one run."""
        chosen = sorted(url for url in urls if not has_secret(url))[:MOST]
        if len(chosen) < 2:
            return
        start = os.path.commonprefix(chosen)  # noqa: RUF071  (of characters is what is wanted)
        text = "\n".join([start, *(url[len(start) :] for url in chosen)])
        # Most runs want what the one before wanted: then nothing is written.
        marks = [
            mark
            for mark in map(_mark, chosen)
            if (was := self._catalogue.link(mark)) is None or was.source != text
        ]
        self._catalogue.learn([Link(mark, source=text, kind="page") for mark in marks])


def _mark(url: str) -> str:
    """The link under which a page's company is noted; no URL of a file can be this."""
    return f"ahead:{url}"
