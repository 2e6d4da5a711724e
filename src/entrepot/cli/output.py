"""Writing for people and for programs: tables, JSON, warnings, errors, progress, the one question.

No command's matter here.

Data goes to stdout, all else to stderr. Plain text throughout, so nothing heavy is imported; colour
is a few escape sequences on a terminal that wants them (``NO_COLOR``, ``FORCE_COLOR``,
``CLICOLOR``, ``TERM=dumb``).
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from entrepot.errors import (
    Busy,
    ConfigError,
    EntrepotError,
    FormatError,
    StoreFull,
    UpstreamError,
    UsageError,
)
from entrepot.sizes import show_count, show_size

SCHEMA = 1
"""Version of the JSON; it only grows."""

DONE, FAILED, USAGE, PARTLY, BUSY, NO_SPACE, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130
"""Exit statuses (docs/reference/exit-codes.md)."""

_ASCII = str.maketrans("\u2013\u2014\u2018\u2019\u201c\u201d", "--''\"\"") | {0x2026: "..."}


class Output:
    """Where one invocation writes.

    Args:
        stdout: for data.
        stderr: for all else.
        environ: for the variables that speak of colour and width.
        command: named in the JSON.
        as_json: one JSON object in place of text.
        quiet: how often ``-q`` was given.
        verbose: how often ``-v`` was given.
        color: ``auto``, ``always`` or ``never``.
        progress: whether progress may be shown.
    """

    def __init__(
        self,
        stdout: TextIO,
        stderr: TextIO,
        environ: Mapping[str, str],
        *,
        command: str = "",
        as_json: bool = False,
        quiet: int = 0,
        verbose: int = 0,
        color: str = "auto",
        progress: bool = True,
    ) -> None:
        self._stdout, self._stderr, self._environ = stdout, stderr, environ
        self.command, self.as_json, self.quiet, self.verbose = command, as_json, quiet, verbose
        self._color, self._progress = color, progress
        self._warnings: list[dict[str, str]] = []

    # -- data --------------------------------------------------------------------------------------

    def line(self, text: str = "") -> None:
        """One line of the answer; nothing when the answer is JSON."""
        if not self.as_json:
            self._write(self._stdout, text + "\n")

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, last: int = 0
    ) -> None:
        """Columns set two spaces apart, under their titles; ``>TITLE`` is set to the right.

        The ``last`` rows are totals: not counted as data by colour.

        On a terminal the widest left-aligned columns are shortened until a row fits, names and
        paths in their middle, words at their end; in a pipe nothing is.
        """
        if self.as_json:
            return
        cells = [
            [title.removeprefix(">"), *map(_safe, column)]
            for title, *column in zip(columns, *rows, strict=True)
        ]
        widths = [max(map(len, column)) for column in cells]
        excess = self._excess(widths)
        for at in sorted(
            (i for i, title in enumerate(columns) if title[0] != ">"), key=lambda i: -widths[i]
        ):
            if excess > 0 and widths[at] > _NARROW:
                width = max(_NARROW, widths[at] - excess)
                cells[at] = [_shortened(cell, width) for cell in cells[at]]
                excess, widths[at] = excess - widths[at] + width, width
        padded = [
            [cell.rjust(width) if title[0] == ">" else cell.ljust(width) for cell in column]
            for column, title, width in zip(cells, columns, widths, strict=True)
        ]
        lines = [line.rstrip() for line in map("  ".join, zip(*padded, strict=True))]
        for bold in (0, *range(len(lines) - last, len(lines))):
            lines[bold] = self.bold(lines[bold])
        self.line("\n".join(lines))

    def blocks(self, blocks: Iterable[Sequence[str]]) -> None:
        """Items of several lines, all but the first set in; nothing of them is shortened."""
        self.line("\n".join("\n    ".join(map(_safe, lines)) for lines in blocks))

    def fits(self, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> bool:
        """Whether the rows of a table have room as they are."""
        pairs = zip(columns, cells, strict=True)
        widths = [max(map(len, (title.removeprefix(">"), *cell))) for title, cell in pairs]
        return self._excess(widths) <= 0

    def _excess(self, widths: Sequence[int]) -> int:
        """How much too wide a row of such columns is; nothing in a pipe."""
        return sum(widths) + 2 * (len(widths) - 1) - self.width() if self.width() else 0

    def document(self, **fields: Any) -> None:
        """The answer as JSON, when that was asked for.

        ``schema``, ``command``, the fields, and the warnings so far.
        """
        if self.as_json:
            whole = {"schema": SCHEMA, "command": self.command, **fields}
            whole["warnings"] = self._warnings
            members = [f"  {json.dumps(name)}: {_as_json(value)}" for name, value in whole.items()]
            self._write(self._stdout, "{\n" + ",\n".join(members) + "\n}\n")

    def hint(self, text: str) -> None:
        """A line that helps on but is no data; left out with ``-q``."""
        if not self.quiet:
            self.line(text)

    # -- words on the side -------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """A remark on stderr; left out with ``-q``."""
        if not self.quiet:
            self._write(self._stderr, text + "\n")

    def say(self, text: str) -> None:
        """A line on stderr that ``-q`` does not take away.

        What went wrong in an answer that was given all the same.
        """
        self._write(self._stderr, text + "\n")

    def warn(
        self, ident: str, text: str, fix: str = "", *, hint: str = "", shown: bool = True
    ) -> None:
        """Something is wrong that does not stop the command.

        Kept for the JSON; on stderr too, unless it is ``shown`` elsewhere.

        Args:
            ident: kebab-case, stable.
            text: one sentence.
            fix: a command that repairs it.
            hint: where there is no such command, what helps on.
            shown: ``False`` when the command puts it into its own text.
        """
        self._warnings.append({"id": ident, "text": text, "fix": fix or hint})
        if shown and not self.as_json:
            self._say("33", "warning", text, fix, hint)

    def error(self, exc: BaseException) -> int:
        """Say what went wrong and what to do about it.

        Returns:
            The exit status that belongs to it.
        """
        ident, text, hint = explained(exc, self.command)
        fix = exc.fix if isinstance(exc, EntrepotError) else ""
        if self.as_json:
            self.document(error={"id": ident, "text": text, "fix": fix or hint})
        self._say("31", "error", text, fix, hint)
        return exit_status(exc)

    def _say(self, color: str, label: str, text: str, fix: str, hint: str) -> None:
        self._write(self._stderr, f"{self._paint(color, label, self._stderr)}: {text}\n")
        if fix or hint:
            self._write(self._stderr, f"fix: {fix}\n" if fix else f"hint: {hint}\n")

    def confirm(self, question: str) -> bool:
        """Ask on the terminal; the default is no.

        Raises:
            UsageError: there is no terminal to ask on.
            EOFError, KeyboardInterrupt: as ``input`` has it; what is written next starts on a new
                line.
        """
        import sys

        asks = sys.stdin is not None and sys.stdin.isatty() and self._stderr.isatty()
        if self.as_json or not asks:
            raise UsageError(
                "this needs a confirmation, and there is no terminal to ask on",
                hint="add --yes, or --dry-run to look only",
            )
        self._write(self._stderr, f"{question} [y/N] ")
        try:
            answer = input()
        except (EOFError, KeyboardInterrupt):
            self._write(self._stderr, "\n")
            raise
        return answer.strip().lower() in {"y", "yes"}

    def meter(self) -> Meter:
        """Progress that appears on stderr when the work takes more than a second."""
        shows = (
            self._progress
            and not self.quiet
            and self._stderr.isatty()
            and self._environ.get("TERM") != "dumb"
        )
        return Meter(self._stderr if shows else None)

    # -- looks -------------------------------------------------------------------------------------

    def bold(self, text: str) -> str:
        """Emphasised on stdout where colour is wanted."""
        return self._paint("1", text, self._stdout)

    def _paint(self, code: str, text: str, stream: TextIO) -> str:
        return (
            f"\x1b[{code}m{text}\x1b[0m"
            if text and wants_color(self._color, stream.isatty(), self._environ)
            else text
        )

    def width(self) -> int:
        """Columns to fit into: ``COLUMNS``, else the terminal's.

        0 (no limit) where stdout is no terminal.
        """
        if not self._stdout.isatty():
            return 0
        columns = self._environ.get("COLUMNS", "")
        if columns.isascii() and columns.isdigit() and int(columns) > 0:
            return int(columns)
        try:
            return os.get_terminal_size(self._stdout.fileno()).columns
        except (OSError, ValueError):
            return 80

    def place(self, path: Path | None, home: Path) -> str:
        """A path for people: the home directory as ``~``."""
        if path is None:
            return "-"
        text, prefix = str(path), str(home).rstrip(os.sep)
        # A home of "/", as containers have it, is not worth a "~"
        if prefix and (text == prefix or text.startswith(prefix + os.sep)):
            return f"~{text[len(prefix) :]}"
        return text

    def flush(self) -> None:
        """Write out what is buffered, so that a closed pipe is noticed here and not at exit."""
        self._stdout.flush()

    def _write(self, stream: TextIO, text: str) -> None:
        encoding = getattr(stream, "encoding", None) or "utf-8"
        if encoding.lower().replace("_", "-") not in ("utf-8", "utf8"):
            text = text.translate(_ASCII).encode("ascii", "replace").decode()
        else:
            text = text.encode("utf-8", "replace").decode()  # undecodable bytes of file names
        if stream is self._stderr:
            # What is said beside the result changes no result: a full or closed stderr is no
            # reason to fail, and the exit status of `run` is its child's.
            try:
                stream.write(text)
                stream.flush()
            except (OSError, ValueError):
                discard(stream)
        else:
            stream.write(text)


def discard(stream: TextIO) -> None:
    """Send to nowhere what the stream holds and is given: its reader has gone, its disk is full.

    What is left in its buffer would change the exit status to 120 when Python ends.
    """
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno(), inheritable=False)
        os.close(null)


class Meter:
    """A line of progress that rewrites itself.

    Shown first after a second, ten times a second at most.

    Args:
        stream: where; ``None``: nowhere.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._next = time.monotonic() + 1.0
        self._shown = 0

    def __call__(self, done: int, total: int | None, what: str) -> None:
        """See :class:`entrepot.ports.tool.Progress`."""
        if self._stream is None or (now := time.monotonic()) < self._next:
            return
        self._next = now + 0.1
        show = show_size if what == "bytes" else show_count
        whole = f" of {show(total)}" if total else ""
        share = f", {100 * done // total} %" if total else ""
        text = f"{show(done)}{whole}{'' if what == 'bytes' else f' {what}'}{share}"
        self._stream.write(f"\r{text.ljust(self._shown)}")
        self._stream.flush()
        self._shown = len(text)

    def close(self) -> None:
        """Wipe the line."""
        if self._stream is not None and self._shown:
            self._stream.write(f"\r{' ' * self._shown}\r")
            self._stream.flush()
            self._shown = 0


def wants_color(choice: str, is_terminal: bool, environ: Mapping[str, str]) -> bool:
    """Whether to colour.

    The flag, then ``NO_COLOR``, ``FORCE_COLOR`` or ``CLICOLOR_FORCE``, ``CLICOLOR=0``,
    ``TERM=dumb``. An empty variable counts as unset (no-color.org, bixense.com/clicolors).
    """
    if choice != "auto":
        return choice == "always"
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR") or environ.get("CLICOLOR_FORCE", "0") not in ("", "0"):
        return True
    return is_terminal and environ.get("CLICOLOR") != "0" and environ.get("TERM") != "dumb"


def explained(exc: BaseException, command: str = "") -> tuple[str, str, str]:
    """Stable id, sentence and hint of anything that was raised while a command ran."""
    if isinstance(exc, EntrepotError):
        url = (
            f" ({exc.url})"
            if isinstance(exc, UpstreamError) and exc.url and exc.url not in exc.message
            else ""
        )
        return exc.reference, exc.message + url, exc.hint
    if isinstance(exc, OSError):
        path = f"{exc.filename}: " if exc.filename else ""
        return "system", f"{path}{exc.strerror or exc}", ""
    if isinstance(exc, EOFError):
        return "usage", "the question got no answer", "add --yes"
    doing = f"running `entrepot {command}`" if command else "reading the command line"
    return (
        "bug",
        f"internal error while {doing}: {type(exc).__name__}: {exc}",
        "run it again with --debug and open an issue of entrepot with what it prints",
    )


def exit_status(exc: BaseException) -> int:
    """The exit status that belongs to something that was raised."""
    if isinstance(exc, (UsageError, EOFError)) or (
        isinstance(exc, ConfigError) and exc.source.startswith("--")
    ):
        return USAGE
    if isinstance(exc, FormatError) and not exc.hint:
        return FAILED
    if isinstance(exc, Busy):
        return BUSY
    if isinstance(exc, StoreFull) or (
        isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT)
    ):
        return NO_SPACE
    return INTERRUPTED if isinstance(exc, KeyboardInterrupt) else FAILED


_NARROW = 12
"""No column is made narrower."""


def _shortened(text: str, width: int) -> str:
    if len(text) <= width:
        return text
    if " " in text and "/" not in text and "\\" not in text:  # words, and no path
        return f"{text[: width - 1].rpartition(' ')[0] or text[: width - 2]}.."
    head = (width - 2) // 3
    return f"{text[:head]}..{text[len(text) - (width - 2 - head) :]}"


def _safe(text: str) -> str:
    """Names come from the network: no control characters reach a terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


class Encoded(list[str]):
    """A list in the JSON whose items are JSON already, a line each.

    A hundred thousand take seconds to indent.
    """


def encoded(item: Any) -> str:
    """An item of :class:`Encoded`."""
    return _ITEMS.encode(item)


def _as_json(value: Any) -> str:
    """A member of the whole, set below it."""
    if isinstance(value, Encoded):
        return "[\n    " + ",\n    ".join(value) + "\n  ]" if value else "[]"
    return json.dumps(value, indent=2, default=_plain).replace("\n", "\n  ")


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (tuple, set, frozenset)):
        return sorted(value) if not isinstance(value, tuple) else list(value)
    return str(value)


_ITEMS = json.JSONEncoder(default=_plain)
