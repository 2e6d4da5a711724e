"""Which pages were asked for together, remembered from run to run.

No requests here: ``ahead.py`` makes them.
"""

from __future__ import annotations

import os.path
from collections.abc import Iterable, Sequence

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
        start, *rest = (self._catalogue.note(_note_name(url)) or "").split("\n")
        return [start + each for each in rest]

    def remember(self, urls: Iterable[str]) -> None:
        """These were asked for in one run."""
        chosen = sorted(url for url in urls if not has_secret(url))[:MOST]
        if len(chosen) < 2:
            return
        start = os.path.commonprefix(chosen)  # noqa: RUF071  (of characters is what is wanted)
        text = "\n".join([start, *(url[len(start) :] for url in chosen)])
        # Most runs want what the one before wanted: then nothing is written.
        names = [name for name in map(_note_name, chosen) if self._catalogue.note(name) != text]
        self._catalogue.write_notes(dict.fromkeys(names, text))


def _note_name(url: str) -> str:
    """The note of which pages were asked for together with one."""
    return f"ahead:{url}"
