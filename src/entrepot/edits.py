"""Changing one settings file: only the lines that were asked for, and what undo needs of them.

What may be shown of a setting, and what may be remembered, is decided here too: a credential is
masked for people and kept nowhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from entrepot.cache_root import others_link, user_name
from entrepot.errors import ConfigError
from entrepot.fs import write_atomically
from entrepot.redaction import has_secret, redacted_url

_URL = re.compile(r"""[A-Za-z][\w+.-]*://[^\s"',\[\]{}<>]+""")
_SECRET_KEY = re.compile(r"(?i)passw|token|secret|credential|api[-_]?key")
_SWITCHES = frozenset(("true", "false", "yes", "no", "on", "off"))
"""Values that are no credential whatever their key is called."""
_BY_HAND = "change the file by hand"


@dataclass(frozen=True, slots=True)
class Patch:
    """One change of a file, from the first line that changed to the last."""

    at: int
    """Bytes in front of it."""
    before: str
    """The lines as they were; bytes that are not UTF-8 are surrogates."""
    after: str
    """The lines as they were made."""
    digest_before: str
    """SHA-256 of the whole file before the change, in hex."""
    digest_after: str
    made: bool = False
    """Whether there was no file before."""

    def taken_back(self, data: bytes) -> bytes | None:
        """The file as it was before the change; ``None`` unless it is as the change left it."""
        if sha256(data).hexdigest() != self.digest_after:
            return None
        end = self.at + len(_bytes(self.after))
        old = data[: self.at] + _bytes(self.before) + data[end:]
        return old if sha256(old).hexdigest() == self.digest_before else None


def patch_of(before: bytes, after: bytes, *, made: bool = False) -> Patch:
    r"""What changed between two contents of a file, by whole lines.

    >>> patch_of(b"a\nb\nc\n", b"a\nB\nc\n").before
    'b\n'
    """
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    shorter = min(len(old), len(new))
    start = next((n for n in range(shorter) if old[n] != new[n]), shorter)
    end = next((n for n in range(shorter - start) if old[-1 - n] != new[-1 - n]), shorter - start)
    return Patch(
        len(b"".join(old[:start])),
        _text(b"".join(old[start : len(old) - end])),
        _text(b"".join(new[start : len(new) - end])),
        sha256(before).hexdigest(),
        sha256(after).hexdigest(),
        made=made,
    )


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def read_bytes(path: Path) -> bytes:
    """A file's content; empty when it is not there.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror}", source=str(path)) from exc


def edit_file(
    path: Path,
    change: Callable[[str], str],
    *,
    encoding: str = "utf-8",
    errors: str = "surrogateescape",
    secret: bool = False,
) -> Patch | None:
    """Change a file's text in one step; mode, owner and a symbolic link stay.

    Args:
        path: the file; it need not be there.
        change: the new text for the old one; line ends and a byte order mark come in as they are.
        encoding: of the file.
        errors: what is done with bytes that are not of that encoding.
        secret: a new file is for its owner alone.

    Returns:
        What was replaced; ``None`` when nothing was.

    Raises:
        ConfigError: the change is refused, or the file cannot be read or written.
    """
    _refuse_links_of_others(path)
    before, made = read_bytes(path), not os.path.exists(path)
    try:
        after = change(before.decode(encoding, errors)).encode(encoding, errors)
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path} is not in {encoding}: {exc}", source=str(path)) from exc
    except UnicodeEncodeError as exc:
        raise ConfigError(
            f"{path} is written in {encoding}, which cannot hold this value", source=str(path)
        ) from exc
    except ConfigError as exc:
        message = f"{path}: {exc.message}"
        raise ConfigError(
            message, name=exc.name, value=exc.value, source=str(path), hint=exc.hint, fix=exc.fix
        ) from exc
    if after == before:
        return None
    write_atomically(path, after, secret=secret)
    return patch_of(before, after, made=made)


def _refuse_links_of_others(path: Path) -> None:
    """Let root write through no link of another user, who would choose what root changes.

    Raises:
        ConfigError: there is one on the way to the file.
    """
    if not hasattr(os, "geteuid") or os.geteuid() or not (found := others_link(path)):
        return
    link, owner = found
    raise ConfigError(
        f"{link} is a link of {user_name(owner)}, and root does not write through it",
        source=str(path),
        hint=f"run entrepot as {user_name(owner)}, or edit the file itself",
    )


def with_toml(text: str, names: Sequence[str], value: Any) -> str:
    """A TOML text with one key set, or without it (``None``); comments and order stay.

    Raises:
        ConfigError: it is not TOML, or more than that key would change.
    """
    # Late: 40 ms that only a change pays.
    import tomllib  # noqa: PLC0415

    import tomlkit  # noqa: PLC0415
    from tomlkit.exceptions import TOMLKitError  # noqa: PLC0415

    mark, bare = text[: text.startswith("\ufeff")], text.removeprefix("\ufeff")
    try:
        document, wanted = tomlkit.parse(bare), tomllib.loads(bare)
        holder: Any = document
        expected: Any = wanted
        for name in names[:-1]:
            if name not in expected:
                if value is None:
                    return text
                holder[name], expected[name] = tomlkit.table(), {}
            holder, expected = holder[name], expected[name]
            if not isinstance(holder, MutableMapping):
                raise ConfigError(f"{name} is not a table", name=".".join(names), hint=_BY_HAND)
        if value is not None:
            holder[names[-1]] = expected[names[-1]] = value
        elif names[-1] in expected:
            del holder[names[-1]], expected[names[-1]]
        after = tomlkit.dumps(document)
        read = tomllib.loads(after)
    except (TOMLKitError, ValueError, KeyError, TypeError) as exc:
        text = f"it cannot be edited: {exc}"
        raise ConfigError(text, name=".".join(names), hint=_BY_HAND) from exc
    if read != wanted:
        text = "more than this key would change"
        raise ConfigError(text, name=".".join(names), hint=_BY_HAND)
    return mark + after


def toml_line(text: str, name: str) -> int:
    """The line on which a TOML text sets a dotted name, counted from 1.

    That of its table for inline tables; 0 if not found.
    """
    table, table_line = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[+\s*([^\[\]]+?)\s*\]", line):
            table = re.sub(r"[\"'\s]", "", header[1])
            if table == name:
                return number
            table_line = number if name.startswith(f"{table}.") else table_line
        elif pair := re.match(r"\s*([\w\"'. -]+?)\s*=", line):
            here = re.sub(r"[\"'\s]", "", pair[1])
            full = f"{table}.{here}" if table else here
            if full == name:
                return number
            table_line = number if name.startswith(f"{full}.") else table_line
    return table_line


def holds_secret(value: str | None, key: str = "") -> bool:
    """Whether a value carries a credential: in one of its URLs, or because its key names one.

    >>> holds_secret("https://me:pw@index.test/simple"), holds_secret(None)
    (True, False)
    >>> holds_secret("x=https://index.test/t/tk-1/x")
    True
    >>> holds_secret("tk-1", "anaconda_token"), holds_secret("true", "add_anaconda_token")
    (True, False)
    """
    if not value:
        return False
    if _SECRET_KEY.search(key) and value.strip().lower() not in _SWITCHES:
        return True
    words = [*value.replace(",", " ").split(), *_URL.findall(value)]
    return any(("://" in word or "@" in word) and has_secret(word) for word in words)


def may_hold_secret(lines: str, key: str = "") -> bool:
    """Whether lines of a file may carry a credential, in a URL or under a name for one.

    A doubt counts, but the name of the changed key itself is none.

    >>> may_hold_secret('url = "https://me:pw@index.test/simple"')
    True
    >>> may_hold_secret("password: x"), may_hold_secret("timeout = 60")
    (True, False)
    >>> may_hold_secret("add_anaconda_token: true", "add_anaconda_token")
    False
    """
    rest = re.sub(rf"(?<![\w-]){re.escape(key)}(?![\w-])", "", lines) if key else lines
    return holds_secret(lines) or _SECRET_KEY.search(rest) is not None


def masked(value: str, key: str = "") -> str:
    """A value for people: the credentials in its URLs masked, all of it where that is not enough.

    >>> masked("https://me:pw@index.test/simple /wheels"), masked("tk-1", "anaconda_token")
    ('https://index.test/simple /wheels', '***')
    >>> masked("mine=https://me:pw@index.test/simple")
    'mine=https://index.test/simple'
    """
    shown = re.sub(r"\S+", lambda word: _masked_word(word[0]), value)
    return "***" if holds_secret(shown, key) else shown


def _masked_word(word: str) -> str:
    name, equals, url = word.partition("=")
    if not equals or "://" in name or "://" not in url:
        name, equals, url = "", "", word
    return name + equals + (redacted_url(url) if holds_secret(url) else word[len(name + equals) :])
