"""The configuration files of conda and mamba, edited line by line.

Which files these are, each tool says itself.

A list takes ``set KEY A,B`` for its entries in the file, and ``KEY.prepend``, ``KEY.append`` and
``KEY.remove`` for one entry: ``entrepot config --tool conda set pkgs_dirs.prepend /data/pkgs``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from entrepot.errors import ChangedSince, ConfigError
from entrepot.fs import write_atomically
from entrepot.patches import patch_of
from entrepot.ports.tool import Change, Surroundings
from entrepot.redaction import has_secret, redacted_url
from entrepot.tools.conda.condarc import UNREADABLE, Document, read_plainly, read_yaml
from entrepot.tools.conda.edit import (
    lines_of,
    mend,
    with_item,
    with_lines,
    with_scalar,
    without_item,
    without_key,
)
from entrepot.tools.conda.keys import LISTS, meant
from entrepot.tools.conda.pkgs_dirs import Cache

_VERBS = frozenset(("prepend", "append", "remove"))
_SHELL = frozenset(
    (
        "CONDA_EXE CONDA_PREFIX CONDA_SHLVL CONDA_DEFAULT_ENV CONDA_PROMPT_MODIFIER "
        "CONDA_PYTHON_EXE CONDA_ROOT CONDA_BAT CONDA_PREFIX_1 CONDA_PREFIX_2 CONDA_PREFIX_3"
    ).split()
)
"""Variables that activation sets; they are no settings."""
_SECRET = ("password", "token", "secret")


class RcSettings(ABC):
    """The configuration of one of the two.

    Args:
        around: the world.
        path: the file that is changed; ``None``: the tool's usual one, or a stronger file that sets
            the key already.
    """

    tool: str

    def __init__(self, around: Surroundings, path: Path | None = None) -> None:
        self.around = around
        self._path = path

    def items(self) -> Iterable[tuple[str, str, str]]:
        """``(key, value, PATH:LINE or variable)``, weakest first, one per item; secrets masked."""
        for document in self._documents():
            for key, value in document.values.items():
                yield from _rows(document, key, value)
        for name, value in self.around.environ.items():
            if name.startswith("CONDA_") and name not in _SHELL and value:
                yield name.removeprefix("CONDA_").lower(), masked(name, value), name

    def get(self, key: str) -> str | None:
        """The value in force; lists comma-separated, strongest first, caches expanded."""
        if key == "pkgs_dirs":
            return ",".join(cache.path for cache in self._caches())
        found = [(value, source) for name, value, source in self.items() if name == key]
        if not found:
            return None
        if key in LISTS:
            return ",".join(dict.fromkeys(value for value, _ in reversed(found)))
        return found[-1][0]

    def problems(self) -> list[tuple[Path, str]]:
        """Files that conda skips or stops at, each with a sentence that names the line."""
        found = []
        for document in self._documents():
            texts = [document.problem, *(value.problem for value in document.lists.values())]
            found += [
                (document.path, text.removeprefix(f"{document.path}:").strip())
                for text in texts
                if text
            ]
        return found

    @abstractmethod
    def file(self) -> Path:
        """The file that ``set`` writes."""

    def set(self, key: str, value: str) -> Change:
        """Set a scalar, or a list's entries in the file.

        See the top for ``KEY.prepend`` and the like.

        Raises:
            ConfigError: the file is broken or may not be written, or the key holds something else.
        """
        name, _, verb = key.partition(".")
        if right := meant(name):
            raise ConfigError(
                f"{self.tool} has no setting {name}", name=name, hint=f"{right} is one"
            )
        if verb in _VERBS:
            return {"prepend": self.prepend, "append": self.append, "remove": self.remove}[verb](
                name, value
            )
        if verb:
            raise ConfigError(
                f"{key}: entries of a mapping are not edited here",
                name=key,
                hint=f"entrepot config --tool {self.tool} edit",
            )
        if name in LISTS:
            return self._set_list(name, [each.strip() for each in value.split(",") if each.strip()])
        path = self._target(name)
        native = self._native(path, "set", name, value)
        return self._change(path, name, lambda text: with_scalar(text, name, value), native)

    def prepend(self, key: str, value: str) -> Change:
        """Put an entry first in the file's list; one that is there moves.

        Raises:
            ConfigError: as for :meth:`set`.
        """
        return self._add(key, value, "first")

    def append(self, key: str, value: str) -> Change:
        """Put an entry last in the file's list; one that is there moves.

        Raises:
            ConfigError: as for :meth:`set`.
        """
        return self._add(key, value, "last")

    def remove(self, key: str, value: str) -> Change:
        """Take an entry out of the strongest file that has it, as it is written there.

        Raises:
            ConfigError: no file has it.
        """
        path = self._holder(key, value)
        native = self._native(path, "remove", key, value)
        return self._change(path, key, lambda text: without_item(text, key, value), native)

    def unset(self, key: str) -> Change:
        """Remove a key from the strongest file that sets it.

        Raises:
            ConfigError: no file sets it.
        """
        path = self._holder(key)
        native = self._native(path, "remove-key", key)
        return self._change(path, key, lambda text: without_key(text, key), native)

    def mend(self) -> list[tuple[Path, list[str]]]:
        """Make every broken file readable; returns what was done to each, one sentence per change.

        A file that cannot be repaired is left alone.
        """
        done = []
        for document in self._documents():
            if UNREADABLE not in document.problem and (
                document.problem or any(v.problem for v in document.lists.values())
            ):
                text, sentences = mend(self._read(document.path))
                if sentences and _is_whole(text):
                    write_atomically(document.path, text.encode("utf-8", "surrogateescape"))
                    done.append((document.path, sentences))
        return done

    def restore(self, change: Change) -> Change:
        """Put back what a change replaced, in the file that it changed.

        A list gets its entries back in their order.

        Raises:
            ChangedSince: the key holds something else by now.
            ConfigError: the file is broken or may not be written.
        """
        path, key, before = change.path, change.key, change.before
        assert path is not None  # no variable is ever changed
        if _value(path, self._read(path), key) != change.after:
            raise ChangedSince(key, path)
        edit: Callable[[str], str]
        if before is None:
            native = self._native(path, "remove-key", key)
            edit = lambda text: without_key(text, key)  # noqa: E731  # three ways, one name
        elif change.lines:
            native = ""  # conda has no command that puts a whole list back with its comments
            edit = lambda text: with_lines(text, key, change.lines)  # noqa: E731
        elif key in LISTS:
            return type(self)(self.around, path).set(key, before)
        else:
            native = self._native(path, "set", key, before)
            edit = lambda text: with_scalar(text, key, before)  # noqa: E731
        return self._change(path, key, change.patch.or_else(edit) if change.patch else edit, native)

    def export(self, key: str, value: str | None) -> tuple[str, Change]:
        """The variable that stands for a key.

        For ``pkgs_dirs`` it stands in front of what files say and separates by commas.

        Raises:
            ConfigError: an entry of a list is meant, and a variable holds all of it.
        """
        name, _, verb = key.partition(".")
        if verb:
            raise ConfigError(f"a variable holds all of {name}, not one entry", name=key)
        variable = f"CONDA_{name.upper()}"
        return variable, Change(None, name, self.around.environ.get(variable), value, "")

    @abstractmethod
    def _documents(self) -> Sequence[Document]:
        """Every file that is read, weakest first."""

    @abstractmethod
    def _caches(self) -> Sequence[Cache]:
        """The list of caches in force."""

    @abstractmethod
    def _native(self, path: Path, verb: str, key: str, value: str = "") -> str:
        """The tool's own command for a change of one file; ``value`` is empty for ``remove-key``.

        Args:
            path: the file.
            verb: ``set``, ``prepend``, ``append``, ``remove`` or ``remove-key``.
            key: the setting.
            value: one value.
        """

    def _set_list(self, key: str, values: list[str]) -> Change:
        path = self._target(key)

        def change(text: str) -> str:
            gone = [each for each in _entries(path, text, key) if each not in values]
            for value in reversed(values):
                text = with_item(text, key, value, "first")
            for each in gone:
                text = without_item(text, key, each)
            return text

        commands = (
            [self._native(path, "remove-key", key)]
            if _value(path, self._read(path), key) is not None
            else []
        )
        commands += [self._native(path, "append", key, value) for value in values]
        return self._change(path, key, change, "; ".join(commands))

    def _add(self, key: str, value: str, where: Any) -> Change:
        if key == "pkgs_dirs" and not value.strip():
            raise ConfigError(
                f"an empty entry is whatever directory {self.tool} is started in",
                name=key,
                value=value,
            )
        path = self.file()
        native = self._native(path, "prepend" if where == "first" else "append", key, value)
        return self._change(path, key, lambda text: with_item(text, key, value, where), native)

    def _target(self, key: str) -> Path:
        """The file that ``conda config`` writes, or the last stronger one that sets the key."""
        usual = self.file()
        if self._path is not None:
            return usual
        documents = [document.path for document in self._documents()]
        stronger = (
            documents[documents.index(usual) :]
            if usual in documents
            else [p for p in documents if self._is_stronger(p)]
        )
        holding = [d.path for d in self._documents() if d.path in stronger and key in d.values]
        return holding[-1] if holding else usual

    @abstractmethod
    def _is_stronger(self, path: Path) -> bool:
        """Whether a file beats the usual one, which need not be there."""

    def _holder(self, key: str, value: str | None = None) -> Path:
        if self._path is not None:
            return self._path
        for document in reversed(self._documents()):
            if document.problem:
                continue
            entries = (
                [item.text for item in document.lists[key].items] if key in document.lists else []
            )
            if (value is None and key in document.values) or (
                value is not None and value in entries
            ):
                return document.path
        variable = f"CONDA_{key.upper()}"
        hint = (
            f"it comes from the variable {variable}: unset that"
            if self.around.environ.get(variable)
            else ""
        )
        what = key if value is None else f"{key} to {value!r}"
        raise ConfigError(f"no condarc sets {what}", name=key, value=value or "", hint=hint)

    def _read(self, path: Path) -> str:
        try:
            return path.read_bytes().decode("utf-8", "surrogateescape")
        except FileNotFoundError:
            return ""
        except OSError as exc:
            raise ConfigError(f"{path} cannot be read: {exc.strerror}", source=str(path)) from exc

    def _change(self, path: Path, key: str, edit: Callable[[str], str], native: str) -> Change:
        text = self._read(path)
        before = _value(path, text, key)
        try:
            after = edit(text)
        except ConfigError as exc:
            config = f"entrepot config --tool {self.tool}"  # the editor does not know which tool
            hint = exc.hint.replace("entrepot config edit", f"{config} edit")
            raise ConfigError(
                f"{path}: {exc.message}",
                name=exc.name,
                value=exc.value,
                source=str(path),
                hint=hint,
                fix=f"{config} {exc.fix}" if exc.fix else "",
            ) from exc
        patch = None
        if after != text:
            patch = patch_of(text, after, made=not path.exists())
            write_atomically(path, after.encode("utf-8", "surrogateescape"))
        return Change(
            path,
            key,
            before,
            _value(path, after, key),
            native,
            lines=lines_of(text, key),
            patch=patch,
        )


def _rows(document: Document, key: str, value: Any) -> Iterator[tuple[str, str, str]]:
    source = f"{document.path}:{document.lines.get(key, 0)}"
    if key in document.lists:
        for item in document.lists[key].items:
            yield (
                key,
                masked(key, item.text),
                f"{document.path}:{item.line or document.lines.get(key, 0)}",
            )
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield f"{key}.{name}", masked(f"{key}.{name}", str(inner)), source
    elif value is not None:
        yield (
            key,
            masked(key, str(value).lower() if isinstance(value, bool) else str(value)),
            source,
        )


def masked(key: str, value: str) -> str:
    """A setting's value for people: credentials are left out."""
    if any(word in key.lower() for word in _SECRET) and "add_anaconda_token" not in key:
        return "***"
    return redacted_url(value) if "://" in value and has_secret(value) else value


def _parse(path: Path, text: str) -> Document:
    return read_plainly(path, text) or read_yaml(path, text)


def _entries(path: Path, text: str, key: str) -> list[str]:
    found = _parse(path, text).lists.get(key)
    return [item.text for item in found.items] if found else []


def _value(path: Path, text: str, key: str) -> str | None:
    document = _parse(path, text)
    if key in document.lists:
        return ",".join(item.text for item in document.lists[key].items)
    value = document.values.get(key)
    return None if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _is_whole(text: str) -> bool:
    document = _parse(Path("condarc"), text)
    return not document.problem and not any(value.problem for value in document.lists.values())
