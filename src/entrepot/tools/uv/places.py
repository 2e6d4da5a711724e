"""Where uv's cache is, why it is there, and whether uv could use it: the answer to ``where uv``.

Strongest first: ``--no-cache``; ``UV_NO_CACHE`` (true: off; false: uv 0.13 lets it beat the
files, older ones do not); ``no-cache = true`` in a file; ``--cache-dir``; ``UV_CACHE_DIR``;
``cache-dir`` in a file; ``~/Library/Caches/uv`` on macOS if it is there; ``$XDG_CACHE_HOME/uv``
(absolute only), ``~/.cache/uv``; ``%LOCALAPPDATA%/uv/cache``. An empty ``UV_CACHE_DIR`` or
``UV_NO_CACHE`` makes uv stop with an error. "Off" is a temporary directory for each run.

Source: ``uv cache dir`` of 0.5.31, 0.8.24 and 0.13.8 in some forty settings;
``crates/uv-cache/src/cli.rs``.
"""

from __future__ import annotations

import ntpath
import os
import shlex
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from entrepot.cache_root import user_name
from entrepot.ports.tool import ORPHANED, Layer, Place, Surroundings
from entrepot.redaction import redacted_url
from entrepot.tools._shared.disk_usage import listed
from entrepot.tools._shared.safe_read import is_dir, table, tables
from entrepot.tools.uv.configuration import FALSE, TRUE, File, files, line_of, resolved

OFF = "turns the cache off"
_INDEX_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL")


def places(around: Surroundings, *, options: Sequence[str] = ()) -> list[Place]:
    """Uv's cache, and the default place when it is not in use and still holds something.

    Args:
        around: the world.
        options: uv's command line, of which ``--cache-dir`` and ``--no-cache`` are looked at.
    """
    used = files(around)
    rows, error, notes = _rows(around, used, options)
    winner = next(row for row in rows if row.has_effect)
    rows.sort(key=lambda row: not row.has_effect)  # those without effect come last
    layers = tuple(replace(row.layer, wins=row is winner) for row in rows)
    path = None if winner.cache is None else _real(winner.cache, around)
    standard = _real(default(around)[0], around)
    why_not = error or ("caching is turned off" if path is None else _not_writable(path, around))
    found = [
        Place(
            tool="uv",
            path=path,
            layers=layers,
            exists=path is not None and is_dir(path),
            usable=not why_not,
            why_not=why_not,
            notes=notes,
            sources=tuple(sources(around, used)),
        )
    ]
    if standard != path and any(item.is_dir() for item in listed(standard)):
        layers = (Layer("default", "default", str(standard)), layers[0])
        note = "uv does not use this cache any more"
        found.append(Place("uv", standard, layers, ORPHANED, exists=True, notes=(note,)))
    return found


@dataclass(frozen=True, slots=True)
class _Row:
    """A layer and what it says."""

    layer: Layer
    cache: str | None
    """The cache's directory, as written; ``None``: the cache is off."""
    has_effect: bool = True


def _rows(
    around: Surroundings, used: Sequence[File], options: Sequence[str]
) -> tuple[list[_Row], str, tuple[str, ...]]:
    """Every layer, strongest first; why uv would stop; traps."""
    environ, rows, notes = around.environ, list[_Row](), list[str]()
    error = next((file.error for file in used if file.error), "")
    flags = dict(_flags(options))
    if "--no-cache" in flags:
        rows.append(_Row(Layer("option", "--no-cache", "off"), None))
    switch = environ.get("UV_NO_CACHE", "false")
    if switch.lower() in TRUE:
        rows.append(_Row(Layer("environment", "UV_NO_CACHE", switch, note=OFF), None))
    elif switch.lower() not in FALSE:
        error = error or f"uv stops with an error: UV_NO_CACHE={switch!r} is no truth value"
    rows += _switches(used, environ.get("UV_NO_CACHE"), notes)
    if "--cache-dir" in flags:
        value = flags["--cache-dir"]
        rows.append(_Row(Layer("option", "--cache-dir", value), value))
    if value := environ.get("UV_CACHE_DIR", ""):
        rows.append(_Row(Layer("environment", "UV_CACHE_DIR", value), value))
        notes += _traps(value, "UV_CACHE_DIR")
    elif "UV_CACHE_DIR" in environ:
        error = error or "uv stops with an error: UV_CACHE_DIR is empty; unset it"
    for file in used:
        if isinstance(folder := file.options.get("cache-dir"), str):
            layer = Layer("file", line_of(file, "cache-dir"), f"cache-dir = {folder}")
            rows.append(_Row(layer, folder))
            notes += _traps(folder, str(file.path))
    path, reason = default(around)
    if reason == "default":
        rows.append(_Row(Layer("default", "default", path), path))
    else:
        rows.append(_Row(Layer("environment", reason, environ.get(reason, "")), path))
    return rows, error, tuple(dict.fromkeys(notes))


def _switches(used: Sequence[File], variable: str | None, notes: list[str]) -> Iterator[_Row]:
    """``no-cache`` in files: the strongest file that has the key decides."""
    found = [file for file in used if isinstance(file.options.get("no-cache"), bool)]
    for number, file in enumerate(found):
        off, at = file.options["no-cache"], line_of(file, "no-cache")
        text, note = f"no-cache = {str(off).lower()}", OFF
        if number or not off:
            note = "no effect: another setting is stronger" if number else "no effect"
        elif variable is not None and variable.lower() in FALSE:
            note = "no effect: UV_NO_CACHE beats it"
            why = f"although UV_NO_CACHE={variable} is set"
            notes.append(f"uv before 0.13 goes by {text} ({at}) {why}")
        yield _Row(Layer("file", at, text, note=note), None, has_effect=note == OFF)


def _flags(options: Sequence[str]) -> Iterator[tuple[str, str]]:
    for number, word in enumerate(options):
        if word in ("--no-cache", "--no-cache-dir", "-n"):
            yield "--no-cache", ""
        elif word == "--cache-dir" and number + 1 < len(options):
            yield word, options[number + 1]
        elif word.startswith("--cache-dir="):
            yield "--cache-dir", word.partition("=")[2]


def _traps(value: str, source: str) -> Iterator[str]:
    if value.startswith("~") or "$" in value:
        yield f"uv takes {value} ({source}) literally: neither ~ nor variables are expanded"
    elif not os.path.isabs(value) and not ntpath.isabs(value):
        yield f"{value} ({source}) is relative: every working directory gets a cache of its own"


def default(around: Surroundings) -> tuple[str, str]:
    """The default cache and the variable that moved it, else ``default``."""
    environ, home = around.environ, str(around.home)
    if around.platform == "win32":
        local = environ.get("LOCALAPPDATA")
        above = local or ntpath.join(home, "AppData", "Local")
        return ntpath.join(above, "uv", "cache"), "LOCALAPPDATA" if local else "default"
    if around.platform == "darwin" and is_dir(f"{home}/Library/Caches/uv"):
        return f"{home}/Library/Caches/uv", "default"
    xdg = environ.get("XDG_CACHE_HOME", "")
    if xdg.startswith("/"):
        return f"{xdg}/uv", "XDG_CACHE_HOME"
    return f"{home}/.cache/uv", "default"


def _real(text: str, around: Surroundings) -> Path:
    path = resolved(text, around)
    return path if around.platform == "win32" else Path(os.path.realpath(path))


def _not_writable(path: Path, around: Surroundings) -> str:
    """Why uv could not use a directory.

    It writes its marks and its lock at every start and stops when it may not.
    """
    if around.platform == "win32" or around.euid < 0:
        return ""
    for folder in (path, *path.parents):
        try:
            info = folder.lstat()
        except OSError:
            continue
        if _may_write(folder, info, around.euid):
            return ""
        owner, mode = user_name(info.st_uid), stat.filemode(info.st_mode)
        # Only what is a cache and was left by sudo: the command goes through all that is in it
        left = folder == path and info.st_uid == 0 and os.path.isfile(path / "CACHEDIR.TAG")
        back = f", or: sudo chown -R {around.euid} {shlex.quote(str(path))}" if left else ""
        return (
            f"uv stops with an error: {folder} belongs to {owner} ({mode}) and "
            f"{user_name(around.euid)} may not write to it; "
            f"set UV_CACHE_DIR to another directory{back}"
        )
    return ""


def _may_write(folder: Path, info: os.stat_result, euid: int) -> bool:
    if not hasattr(os, "geteuid") or euid == os.geteuid():
        return os.access(folder, os.W_OK)
    return euid == 0 or bool(info.st_mode & (stat.S_IWUSR if info.st_uid == euid else stat.S_IWOTH))


def sources(around: Surroundings, used: Sequence[File]) -> Iterator[str]:
    """Indexes that the variables and files name, without credentials, each once."""
    urls: list[object] = []
    for name in _INDEX_VARIABLES:
        urls += around.environ.get(name, "").split()
    for file in used:
        urls += [item.get("url") for item in tables(file.options.get("index"))]
        for options in (file.options, table(file.options, "pip")):
            for key in ("index-url", "extra-index-url"):
                value = options.get(key)
                urls += value if isinstance(value, list) else [value]
    texts = [url for url in urls if isinstance(url, str)]
    bare = (url.partition("=")[2] if "=" in url.partition("://")[0] else url for url in texts)
    yield from dict.fromkeys(redacted_url(url) for url in bare if "://" in url)
