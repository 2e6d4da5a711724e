"""What a client setup has found so far, and the one place where a URL becomes reportable.

Everything that ends in :class:`~entrepot.ports.client_setup.SetupAnswer` goes through here, so that
no user, password or token of a URL can be reported by mistake, and only http and https ever count
(a ``git+https`` or ``file`` URL is no index).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from entrepot.ports.client_setup import SetupAnswer
from entrepot.redaction import redacted_url
from entrepot.tools._shared.safe_read import is_file
from entrepot.urls import authority_of

URL = re.compile(r"""(?<![+\w])https?://(?:\$\{\w+\}|[^\s"'<>,;)\]}|\\`])+""", re.IGNORECASE)
"""A URL in text. A version-control URL (``git+https://``) is none; ``${NAME}`` inside belongs to
it."""

_VALUE = re.compile(r"\s*(?:[\w.-]+=)?(?:https?://|\$\{?\w+\}?$)", re.IGNORECASE)
_VARIABLE = re.compile(r"\$\{(\w+)\}|\$\((\w+)\)|\$(\w+)|%(\w+)%")
_PACKAGES = re.compile(
    r"\.(?:whl|tar\.gz|tgz|zip|tar\.bz2|tar\.xz|conda|egg|metadata)$"
    r"|/simple(?:/|$)|/(?:current_)?repodata[^/]*$",
    re.IGNORECASE,
)


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
    text = expanded(text.strip(), environ) if "$" in text or "%" in text else text.strip()
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


def looks_like_packages(url: str) -> bool:
    """Whether a URL's path is that of a distribution, conda archive, simple page or repodata."""
    return bool(_PACKAGES.search(url.partition("#")[0].partition("?")[0]))


class Findings:
    """A client setup while it is being put together.

    Args:
        environ: what ``${NAME}`` in a URL is replaced from.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.indexes: set[str] = set()
        self.closed: set[str] = set()
        self.environment: dict[str, str | None] = {}
        self.argv: tuple[str, ...] | None = None
        self._bundles: dict[str, None] = {}
        self._warnings: dict[str, None] = {}
        self._locks: dict[Path, None] = {}

    def add(self, text: str) -> None:
        """One URL, when it is one."""
        url = reportable(text, self.environ)
        if url is not None:
            self.indexes.add(url)

    def add_all(self, texts: str | Iterable[str]) -> None:
        """Every URL in one text or several."""
        for text in (texts,) if isinstance(texts, str) else texts:
            if "://" in text:
                for match in URL.finditer(text):
                    self.add(match[0])
            elif "$" in text:
                self.add_all(_once(text, self.environ))

    def add_value(self, value: str) -> None:
        """URLs of an option's value: ``URL``, ``NAME=URL`` or a list that begins so.

        A sentence with a URL in it is none.
        """
        if _VALUE.match(value):
            self.add_all(value)

    def close(self, urls: Iterable[str], *, but: Iterable[str] = ()) -> None:
        """Never open these URLs' hosts: the child holds a client certificate for them.

        Args:
            urls: of indexes.
            but: URLs of hosts that never ask for one and stay open: the default index.
        """
        spared = {authority_of(url) for url in but}
        for text in urls:
            url = reportable(text, self.environ)
            if url is not None and authority_of(url) not in spared:
                self.closed.add(authority_of(url))

    def bundle(self, value: object, base: Path, home: Path | None = None) -> bool:
        """Note a CA file that a setting names, relative to ``base``.

        Whether there is such a file.
        """
        if not isinstance(value, str) or not value.strip():
            return False
        text = expanded(value.strip().strip("\"'"), self.environ)
        path = home / text[2:] if home is not None and text.startswith("~/") else base / text
        if not is_file(path):
            return False
        self._bundles[str(path)] = None
        return True

    def lock(self, path: Path) -> None:
        """Note a lock or requirement file that the child will read."""
        self._locks[path] = None

    def warn(self, sentence: str) -> None:
        """A setting that cannot be neutralised, for the last line; said once."""
        self._warnings[sentence] = None

    def answer(self) -> SetupAnswer:
        """The answer."""
        return SetupAnswer(
            indexes=frozenset(self.indexes),
            closed=frozenset(self.closed),
            environment=self.environment,
            argv=self.argv,
            bundles=tuple(self._bundles),
            warnings=tuple(self._warnings),
            locks=tuple(self._locks),
        )


def _once(text: str, environ: Mapping[str, str]) -> str:
    """A text that is nothing but variables, replaced.

    Without a URL in the result: empty, so that nothing repeats.
    """
    result = expanded(text, environ)
    return result if "://" in result else ""
