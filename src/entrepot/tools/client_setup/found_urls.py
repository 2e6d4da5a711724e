"""What has been found for one client so far, and the one place where a URL becomes reportable.

Everything that ends in :class:`~entrepot.ports.client_setup.ClientSetup` goes through here, so that
no user, password or token of a URL can be reported by mistake, and only http and https ever count
(a ``git+https`` or ``file`` URL is no index).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from entrepot.ports.client_setup import ClientSetup, ProxyAddress
from entrepot.redaction import redacted_url
from entrepot.tools._shared.safe_read import is_file, read_text
from entrepot.tools.client_setup.command_line import CommandLine
from entrepot.tools.client_setup.scan import URL, locked_origins, requirement_files
from entrepot.urls import authority_of

_VALUE = re.compile(r"\s*(?:[\w.-]+=)?(?:https?://|\$\{?\w+\}?$)", re.IGNORECASE)
_FETCHED = re.compile(rf"(?:[\w.\[\],-]+\s*@\s*)?(?P<url>{URL.pattern})", re.IGNORECASE)
_VARIABLE = re.compile(r"\$\{(\w+)\}|\$\((\w+)\)|\$(\w+)|%(\w+)%")


def expanded(text: str, environ: Mapping[str, str]) -> str:
    """``${NAME}`` (and ``$(NAME)``, ``$NAME``, ``%NAME%``) replaced as files and tools do.

    Unknown names stay.
    """
    return _VARIABLE.sub(lambda m: environ.get(m[m.lastindex or 0]) or m[0], text)


def reportable(text: str, environ: Mapping[str, str]) -> str | None:
    """The URL without user, password, token and fragment.

    ``None`` when it is no http URL with a usable host.

    >>> reportable("https://me:pw@index.test/simple#sha256=0", {})
    'https://index.test/simple'
    """
    text = expanded(text.strip(), environ)
    try:
        parts = urlsplit(text)
        host, _port = parts.hostname, parts.port
    except ValueError:
        return None
    if (
        parts.scheme.lower() not in ("http", "https")
        or not host
        or any(c in host for c in "${}*\\ ")
    ):
        return None
    return redacted_url(text)


class FoundUrls:
    """A client's set-up while it is being put together."""

    def __init__(self, line: CommandLine, proxy: ProxyAddress | None) -> None:
        self.line = line
        self.proxy = proxy
        self.indexes: set[str] = set()
        self.closed: set[str] = set()
        self.environment: dict[str, str | None] = {}
        self.argv: tuple[str, ...] | None = None
        self._bundles: dict[str, None] = {}
        self._warnings: dict[str, None] = {}
        self._locks: dict[Path, None] = {}

    def add(self, text: str) -> None:
        """One URL, when it is one."""
        url = reportable(text, self.line.environ)
        if url is not None:
            self.indexes.add(url)

    def add_all(self, texts: str | Iterable[str]) -> None:
        """Every URL in one text or several; of a text of variables alone, those of its value."""
        for text in (texts,) if isinstance(texts, str) else texts:
            if "://" not in text and "$" in text:
                text = expanded(text, self.line.environ)  # noqa: PLW2901  # once, so no circle
            for match in URL.finditer(text):
                self.add(match[0])

    def add_value(self, value: str) -> None:
        """URLs of an option's value: ``URL``, ``NAME=URL`` or a list that begins so.

        A sentence with a URL in it is none.
        """
        if _VALUE.match(value):
            self.add_all(value)

    def add_words(self, *, but_after: Sequence[str]) -> None:
        """Words that are http URLs, or ``name @ URL``, but not the values of the named options."""
        before = ""
        for word in self.line.words:
            if before not in but_after and (match := _FETCHED.match(word)):
                self.add(match["url"])
            before = word

    def add_local_page(self, word: str) -> None:
        """A find-links page on disk names the hosts of its files."""
        path = self.line.path(word.removeprefix("file://"))
        if path.suffix.lower() in (".html", ".htm"):
            self.add_all(read_text(path))

    def add_requirements(self, paths: Iterable[Path], *, will_be_read: bool) -> None:
        """Requirement files and what they include; noted for their digests when they are read."""
        for path, text in requirement_files(paths):
            self.add_all(text.urls)
            if will_be_read:
                self._locks[path] = None

    def add_lock(self, path: Path, *, will_be_read: bool) -> None:
        """Open the hosts that a lock file names; note it for its digests when it is read.

        Digests of a lock that is not read are no promise: they would hold back files that the
        command rightly takes.
        """
        if is_file(path):
            self.add_all(locked_origins(path))
            if will_be_read:
                self._locks[path] = None

    def close(self, urls: Iterable[str], *, but: Iterable[str] = ()) -> None:
        """Never open these URLs' hosts: the child holds a client certificate for them.

        Those of ``but`` never ask for one and stay open.
        """
        stay_open = {authority_of(url) for url in but}
        for text in urls:
            url = reportable(text, self.line.environ)
            if url is not None and authority_of(url) not in stay_open:
                self.closed.add(authority_of(url))

    def bundle(self, value: str, variable: str = "") -> None:
        """Merge a CA file that a setting names; the variable that overrides it names the bundle."""
        text = expanded(value.strip().strip("\"'"), self.line.environ)
        path = self.line.path(text)
        if text and is_file(path):
            self._bundles[str(path)] = None
            if self.proxy is not None and variable:
                self.environment[variable] = self.proxy.bundle

    def warn(self, sentence: str) -> None:
        """A setting that cannot be neutralised, for the last line; said once."""
        self._warnings[sentence] = None

    def setup(self) -> ClientSetup:
        """All that was found."""
        return ClientSetup(
            indexes=frozenset(self.indexes),
            closed=frozenset(self.closed),
            environment=self.environment,
            argv=self.argv,
            bundles=tuple(self._bundles),
            warnings=tuple(self._warnings),
            locks=tuple(self._locks),
        )
