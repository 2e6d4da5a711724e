"""Reading ``repodata.json`` in all its forms, record by record.

The largest have hundreds of megabytes: nothing but the text of the record at hand and what is to be
remembered of each is in memory. They come from remote servers: whatever they hold, reading ends in
a :class:`Repodata` or in :class:`~entrepot.errors.InvalidRepodata`. A record that cannot be
understood is left out, the rest is kept.

Source: what conda-index writes; CEP 15 for ``base_url``; conda-index's notes on ``v3``.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from entrepot.channel.coding import LARGEST, unpacked
from entrepot.channel.forms import IndexName, index_name, resolved
from entrepot.channel.records import Record, Table
from entrepot.errors import InvalidRepodata, RepodataTooLarge
from entrepot.links import Link
from entrepot.names import is_plain_filename
from entrepot.stored import authority_of, has_secret, tokens_in

LONGEST = 16 << 20
"""Characters of one value: of a record, or of all that is skipped at once, as the list of removed
files."""
CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class Repodata:
    """What an index of archives says."""

    url: str
    base: str
    """The directory of its archives, a canonical URL; empty when that cannot be understood, and
    then nothing is known."""
    table: Table
    secret: bool = False
    """Whether its base URL carries a credential: such an index is never stored."""
    is_index: bool = True
    """Whether it has a place for archives, or is ``{}``, which stands for a subdir without any."""

    @property
    def hosts(self) -> frozenset[str]:
        """``HOST:PORT`` of its archives."""
        return frozenset(filter(None, [authority_of(self.base)]))

    def link(self, filename: str) -> Link | None:
        """What it says of an archive."""
        record = self.table.find(filename) if self.base else None
        return record.link(self.base + filename, filename) if record is not None else None


def read_repodata(
    pieces: Iterable[bytes], *, url: str, codings: Sequence[str] = (), limit: int = LARGEST
) -> Repodata:
    """An index of archives, read from its packed bytes.

    Args:
        pieces: as transferred.
        url: its own; its name says how it is packed.
        codings: in what it was packed besides for the transfer, the outermost first.
        limit: bytes of text; more are refused.

    Raises:
        InvalidRepodata: it is none, is damaged, cut off or too large.
    """
    name = index_name(url) or IndexName("", "repodata.json")
    table, base, members = Table(), None, set()
    for key, value in _said(unpacked(pieces, [*codings, *name.codings], limit=limit)):
        if key == _BASE_URL:
            base = value
        elif key == _MEMBER:
            members.add(value)
        elif isinstance(value, dict):
            table.add(key, Record.of(value))
    table.close()
    is_index = members != {False}
    return Repodata(url, resolved(base, url), table, is_secret(base, url), is_index)


def is_secret(base: object, url: str) -> bool:
    """Whether what an index says of its base carries a credential, or the token of the index's own URL."""
    if not isinstance(base, str):
        return False
    return has_secret(base) or any(f"/t/{token}/" in f"{base}/" for token in tokens_in(url))


_BASE_URL, _MEMBER = "/base_url", "/member"
"""No archive has a name like these."""
_OF_AN_INDEX = frozenset({"info", "packages", "packages.conda", "v3"})


def _said(pieces: Iterable[bytes]) -> Iterator[tuple[str, Any]]:
    """The base URL, of each member whether it is an index's, each archive with its record."""
    text = _Text(pieces)
    for key in text.members():
        yield _MEMBER, key in _OF_AN_INDEX and text.at_object()
        if key == "info":
            info = text.value()
            if isinstance(info, dict) and "base_url" in info:
                yield _BASE_URL, info["base_url"]
        elif key in {"packages", "packages.conda"} and text.at_object():
            yield from _records(text, "")
        elif key == "v3" and text.at_object():
            for kind in text.members():
                if kind in {"conda", "tar.bz2"} and text.at_object():
                    yield from _records(text, f".{kind}")
                else:
                    text.value()
        else:
            text.value()
    text.end()


def _records(text: _Text, suffix: str) -> Iterator[tuple[str, Any]]:
    for name in text.members():
        record = text.value()
        filename = name + suffix
        if is_plain_filename(filename):
            yield filename, record


class _Text:
    """A JSON text that is read as far as it is needed.

    ``members`` and ``value`` go on where the other one stopped.
    """

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("strict").decode
        self._scan = json.JSONDecoder().raw_decode
        self._text = ""
        self._at = 0
        self._ended = False

    def members(self) -> Iterator[str]:
        """The keys of the object that begins here.

        Whoever takes a key reads its value before the next.
        """
        self._take("{")
        if self._next() == "}":
            self._at += 1
            return
        while True:
            key = self.value()
            if not isinstance(key, str):
                raise self._wrong("a key that is no text")
            self._take(":")
            yield key
            mark = self._next()
            self._at += 1
            if mark == "}":
                return
            if mark != ",":
                raise self._wrong("no comma after a member")

    def end(self) -> None:
        """Read up to the end of the file, which also shows that what it is packed in is whole.

        Raises:
            InvalidRepodata: something stands behind the value.
        """
        while (match := _NEXT(self._text, self._at)) is None:
            self._at = len(self._text)
            if not self._more():
                return
        self._at = match.start()
        raise self._wrong("something behind its end")

    def at_object(self) -> bool:
        """Whether an object begins here."""
        return self._next() == "{"

    def value(self) -> Any:
        """The whole value that begins here."""
        self._next()
        while True:
            try:
                value, end = self._scan(self._text, self._at)
            except (ValueError, RecursionError) as exc:
                if isinstance(exc, RecursionError) or not self._more():
                    raise self._wrong("a value that cannot be read") from exc
                continue
            if len(self._text) - end < _OF_A_NUMBER and self._more():
                continue  # a number may go on, behind ``e+`` at most
            self._at = end
            return value

    def _take(self, mark: str) -> None:
        if self._next() != mark:
            raise self._wrong(f"no {mark} where one belongs")
        self._at += 1

    def _next(self) -> str:
        """The next character that is no white space."""
        while True:
            match = _NEXT(self._text, self._at)
            if match is not None:
                self._at = match.start()
                return match[0]
            self._at = len(self._text)
            if not self._more():
                raise self._wrong("it breaks off")

    def _more(self) -> bool:
        """Read on: as much again as there is, so that a long value is looked at few times.

        ``False`` at the end, and then nothing has moved.
        """
        rest = self._text[self._at :]
        if self._ended:
            return False
        if len(rest) > LONGEST:
            raise RepodataTooLarge(f"an index with a value of more than {LONGEST} characters")
        parts, size = [rest], 0
        while size < max(CHUNK, len(rest)) and not self._ended:
            piece = next(self._pieces, None)
            self._ended = piece is None
            try:
                parts.append(self._decode(piece or b"", self._ended))
            except UnicodeDecodeError as exc:
                raise self._wrong("it is not UTF-8") from exc
            size += len(parts[-1])
        if size:
            self._text, self._at = "".join(parts), 0
        return bool(size)

    def _wrong(self, why: str) -> InvalidRepodata:
        return InvalidRepodata(f"not repodata: {why}", text=self._text[self._at : self._at + 80])


_OF_A_NUMBER = 3
_NEXT = re.compile(r"[^ \t\r\n]").search
