"""entrepot's own settings: one frozen value, and for each setting where it came from.

Order: flag, ``ENTREPOT_*`` variable, the user's file, the site's drop-ins and file, default.
Everything of the world comes in as :class:`~entrepot.ports.tool.Surroundings`; only the files named
here are read, nothing is written (``file.py`` edits). The directories follow the platform's habits
and, on macOS too, the XDG variables.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from entrepot.edits import toml_line
from entrepot.errors import ConfigError, FormatError
from entrepot.fs import state_folder
from entrepot.ports.tool import Layer, Surroundings
from entrepot.sizes import parse_age, parse_size, show_size

DEFAULT_LIMIT = 20_000_000_000
"""Bytes; the store's cap is the smaller of this and a tenth of its disk unless it is set."""

DEFAULT_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Key:
    """One setting; what it is for is said in ``docs/reference/configuration.md``."""

    name: str
    """Dotted, as in the file."""
    kind: Literal["path", "size", "seconds", "words", "flag", "command"]
    value: Any = None
    """The default, where it does not depend on the machine."""

    @property
    def variable(self) -> str:
        """The environment variable: ``ENTREPOT_LIMIT`` for ``limit.total``."""
        return f"ENTREPOT_{self.name.partition('.')[0].upper()}"


KEYS = (
    Key("store", "path"),
    Key("limit.total", "size"),
    Key("timeout", "seconds", DEFAULT_TIMEOUT_S),
    Key("hosts", "words", ()),
    Key("offline", "flag", value=False),
    Key("ahead", "flag", value=True),
    Key("yes", "flag", value=False),
    Key("log", "path"),
    Key("quota.command", "command", ()),
)
"""Every setting there is, in the order of the reference."""

BY_NAME = {key.name: key for key in KEYS}

_TRUE = frozenset(("1", "true", "yes", "on"))
_FALSE = frozenset(("0", "false", "no", "off"))


@dataclass(frozen=True, slots=True)
class Said:
    """What one layer says of one setting."""

    kind: Literal["option", "environment", "file", "default"]
    source: str
    """``--store``, ``ENTREPOT_STORE``, ``PATH:LINE`` or ``default``."""
    text: str
    """The value as it was written."""
    value: Any


@dataclass(frozen=True, slots=True)
class Complaint:
    """Something in the configuration that is not obeyed: for ``warnings``."""

    id: str
    text: str
    fix: str


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, resolved."""

    store: Path
    """Absolute."""
    limit_total: int | None
    """Bytes of disk; ``None``: no cap."""
    timeout_s: float
    hosts: tuple[str, ...]
    offline: bool
    ahead: bool
    yes: bool
    log: Path | None
    quota_command: tuple[str, ...]
    """Empty: none."""
    said: Mapping[str, tuple[Said, ...]]
    """For each key what every layer says, strongest first; the first one wins."""
    complaints: tuple[Complaint, ...] = ()

    def layers(self, name: str) -> tuple[Layer, ...]:
        """The layers of one key as ``where`` shows them, strongest first."""
        return tuple(
            Layer(s.kind, s.source, s.text, wins=i == 0) for i, s in enumerate(self.said[name])
        )


def load_settings(around: Surroundings, store: str | None = None) -> Settings:
    """Read and resolve every setting.

    Args:
        around: environment, home, working directory and platform.
        store: what ``--store`` said.

    Raises:
        ConfigError: a value that cannot be used, or a file that is not TOML; its source is named.
    """
    said: dict[str, list[Said]] = {key.name: [] for key in KEYS}
    complaints: list[Complaint] = []
    if store is not None:
        path = read_value(KEYS[0], store, source="--store", base=around.cwd, around=around)
        said["store"].append(Said("option", "--store", store, path))
    for key in KEYS:
        if text := around.environ.get(key.variable, ""):
            value = read_value(key, text, source=key.variable, base=around.cwd, around=around)
            said[key.name].append(Said("environment", key.variable, text, value))
    for path in (user_file(around), *site_files(around)):
        tables, content = read_toml(path)
        for name, raw in _flat(tables):
            source = f"{path}:{line_of(content, name)}"
            if name in BY_NAME:
                key = BY_NAME[name]
                value = read_value(key, raw, source=source, base=path.parent, around=around)
                said[name].append(Said("file", source, written(raw), value))
            else:
                text = f"{source}: unknown setting {name!r}; it is ignored"
                fix = nearest(name) or "entrepot config list"
                complaints.append(Complaint("unknown-key", text, fix))
    if (named := around.environ.get("ENTREPOT_CONFIG")) and not user_file(around).exists():
        text = f"ENTREPOT_CONFIG names {named}, and there is no such file"
        complaints.append(Complaint("missing-config", text, "entrepot config edit"))
    place = cache_dir(around)
    said["store"].append(Said("default", "default", str(place), place))
    cap, why = default_limit(said["store"][0].value)
    said["limit.total"].append(Said("default", why, show_size(cap), cap))
    for key in KEYS[2:]:
        said[key.name].append(Said("default", "default", show_value(key, key.value), key.value))
    won = {name: layers[0].value for name, layers in said.items()}
    return Settings(
        store=won["store"],
        limit_total=won["limit.total"],
        timeout_s=won["timeout"],
        hosts=won["hosts"],
        offline=won["offline"],
        ahead=won["ahead"],
        yes=won["yes"],
        log=won["log"],
        quota_command=won["quota.command"],
        said={name: tuple(layers) for name, layers in said.items()},
        complaints=tuple(complaints),
    )


def default_limit(store: Path) -> tuple[int, str]:
    """The cap when none is set, in bytes, and its source in words.

    Nothing is made; a missing path's disk is its parent's.
    """
    for path in (store, *store.parents):
        try:
            disk = os.statvfs(path)
        except (OSError, AttributeError):
            continue
        tenth = disk.f_frsize * disk.f_blocks // 10
        if tenth < DEFAULT_LIMIT:
            return tenth, "default, a tenth of the disk"
        break
    return DEFAULT_LIMIT, "default"


# -- values ----------------------------------------------------------------------------------------


def read_value(key: Key, raw: Any, *, source: str, base: Path, around: Surroundings) -> Any:
    """One value as :class:`Settings` holds it, from text (flags, variables) or from TOML.

    Args:
        key: what is being set.
        raw: a string, or what TOML made of it.
        source: named in the error.
        base: the directory that a relative path is relative to.
        around: for ``~``.

    Raises:
        ConfigError: not a value of the key's kind.
    """
    wants, reader = KINDS[key.kind]
    try:
        return reader(raw, base, around)
    except (TypeError, ValueError) as exc:
        hint = exc.hint if isinstance(exc, FormatError) else ""
        where = f" (in {source})" if source else ""
        raise ConfigError(
            f"{key.name} cannot be {raw!r}{where}: it must be {wants}",
            name=key.name,
            value=str(raw),
            source=source,
            hint=hint,
        ) from exc


def _path(raw: Any, base: Path, around: Surroundings) -> Path:
    if not isinstance(raw, str) or not raw or "\0" in raw:
        raise TypeError
    if raw == "~" or raw.startswith(("~/", "~\\")):
        return around.home / raw[2:].lstrip("/\\")
    if raw.startswith("~"):
        # A shell would have made it that user's home; a directory of that name is hardly meant.
        hint = f"write the whole path, or ./{raw}"
        raise FormatError(f"{raw!r} begins with the name of a user", hint=hint)
    return Path(os.path.normpath(base / raw))


def _size(raw: Any, _base: Path, _around: Surroundings) -> int | None:
    if isinstance(raw, bool) or not isinstance(raw, (int, str)):
        raise TypeError
    if isinstance(raw, int):
        if raw < 0:
            raise ValueError
        return raw
    return None if raw.strip().lower() == "none" else parse_size(raw)


def _seconds(raw: Any, _base: Path, _around: Surroundings) -> float:
    if isinstance(raw, bool) or not isinstance(raw, (int, float, str)):
        raise TypeError
    if isinstance(raw, str):
        raw = parse_age(raw if raw.strip()[-1:].isalpha() else f"{raw}s")
    if not 0 < raw < float("inf"):
        raise ValueError
    return float(raw)


def _words(raw: Any, _base: Path, _around: Surroundings) -> tuple[str, ...]:
    if isinstance(raw, str):
        return tuple(word for word in re.split(r"[,\s]+", raw) if word)
    if not isinstance(raw, list) or not all(isinstance(word, str) for word in raw):
        raise TypeError
    return tuple(raw)


def _flag(raw: Any, _base: Path, _around: Surroundings) -> bool:
    if isinstance(raw, bool):
        return raw
    word = raw.strip().lower() if isinstance(raw, str) else None
    # pip takes any value of PIP_NO_CACHE_DIR, "0" and "off" too, for yes: here falsy words mean
    # false.
    if word not in _TRUE | _FALSE:
        raise TypeError
    return word in _TRUE


def _command(raw: Any, base: Path, around: Surroundings) -> tuple[str, ...]:
    """Text is split as a shell would, but no shell is ever asked."""
    import shlex  # noqa: PLC0415  (few have such a setting)

    return tuple(shlex.split(raw)) if isinstance(raw, str) else _words(raw, base, around)


KINDS: Mapping[str, tuple[str, Callable[[Any, Path, Surroundings], Any]]] = {
    "path": ("a path", _path),
    "size": ("a size like 20GB", _size),
    "seconds": ("seconds, like 30 or 30s", _seconds),
    "words": ("a list of words", _words),
    "flag": ("true or false", _flag),
    "command": ("a command with its arguments", _command),
}
"""What each kind of setting must be, in words, and what reads it."""


def show_value(key: Key, value: Any) -> str:
    """A resolved value in the form that ``config set`` takes."""
    if key.kind == "flag":
        return "true" if value else "false"
    if key.kind == "words":
        return ",".join(value)
    if key.kind == "command" and value:
        import shlex  # noqa: PLC0415  (few have such a setting)

        return shlex.join(value)
    if key.kind == "size":  # in the largest unit that says it exactly: 20GB, 1500MB, 1234
        for unit, power in (("TB", 4), ("GB", 3), ("MB", 2)):
            if value and value % 1000**power == 0:
                return f"{value // 1000**power}{unit}"
        return "none" if value is None else str(value)
    if key.kind == "seconds":
        return f"{value:g}s"
    return "" if value in (None, ()) else str(value)


# -- files -----------------------------------------------------------------------------------------


def user_file(around: Surroundings) -> Path:
    """The user's file: ``ENTREPOT_CONFIG``, else ``config.toml`` in :func:`config_dir`."""
    if named := around.environ.get("ENTREPOT_CONFIG"):
        return _path(named, around.cwd, around)
    return config_dir(around) / "config.toml"


def site_files(around: Surroundings) -> tuple[Path, ...]:
    """The site's files, strongest first.

    Drop-ins in ``conf.d`` (the last by name first), then ``config.toml``.
    """
    site = site_dir(around)
    try:
        drop_ins = sorted(
            (p for p in (site / "conf.d").iterdir() if p.suffix == ".toml"), reverse=True
        )
    except OSError:
        drop_ins = []
    return (*drop_ins, site / "config.toml")


def read_toml(path: Path) -> tuple[dict[str, Any], str]:
    """A file's tables and its text; both empty when there is no file.

    Raises:
        ConfigError: it cannot be read or is not TOML; the line is in ``source``.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        import tomllib  # noqa: PLC0415  (most people have no file)

        return tomllib.loads(text), text
    except (FileNotFoundError, NotADirectoryError):
        return {}, ""
    except OSError as exc:
        raise ConfigError(
            f"cannot read {path}: {exc.strerror}",
            source=str(path),
            hint="make it readable, or set ENTREPOT_CONFIG",
        ) from exc
    except ValueError as exc:  # tomllib's error and UnicodeDecodeError
        line = re.search(r"at line (\d+)", str(exc))
        source = f"{path}:{line[1]}" if line else str(path)
        raise ConfigError(
            f"{source} is not TOML: {exc}", source=source, hint="entrepot config edit"
        ) from exc


def _flat(tables: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tables.items():
        if isinstance(value, dict) and f"{prefix}{name}" not in BY_NAME:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def written(raw: Any) -> str:
    """A value of a TOML file as ``config set`` takes it."""
    if isinstance(raw, bool):
        return "true" if raw else "false"
    return ",".join(raw) if isinstance(raw, list) else str(raw)


def line_of(text: str, name: str) -> int:
    """The line on which a TOML text sets a dotted name, counted from 1; 1 if not found."""
    return toml_line(text, name) or 1


def nearest(name: str) -> str:
    """``did you mean 'limit.total'?``, or nothing when no key is near."""
    import difflib  # noqa: PLC0415  (only on the way to a complaint)

    close = difflib.get_close_matches(name, BY_NAME, n=1, cutoff=0.5)
    ends = [key for key in BY_NAME if name in key.split(".")]
    return f"did you mean {(close or ends)[0]!r}?" if close or ends else ""


# -- directories -----------------------------------------------------------------------------------


def _base(
    around: Surroundings, windows: tuple[str, str], variable: str, mac: str, other: str
) -> Path:
    """A base directory of the platform.

    A relative XDG variable is invalid and ignored (XDG Base Directory Specification 0.8).

    Args:
        around: platform, home and environment.
        windows: the variable that names it on Windows, and its folder below AppData without.
        variable: the XDG variable.
        mac: the folder below the home directory on macOS.
        other: the folder elsewhere.
    """
    if around.platform == "win32":
        named = around.environ.get(windows[0])
        return Path(named) if named else around.home / "AppData" / windows[1]
    named = around.environ.get(variable, "")
    if os.path.isabs(named):
        return Path(named)
    return around.home / (mac if around.platform == "darwin" else other)


_APPLICATIONS = "Library/Application Support"


def config_dir(around: Surroundings) -> Path:
    """The user's configuration directory of entrepot; on macOS ``~/.config`` where that has one."""
    mac = _APPLICATIONS
    if around.platform == "darwin" and (around.home / ".config/entrepot").is_dir():
        mac = ".config"
    windows = "APPDATA", "Roaming"
    return _base(around, windows, "XDG_CONFIG_HOME", mac, ".config") / "entrepot"


def site_dir(around: Surroundings) -> Path:
    """The directory of the site's configuration.

    The first of ``XDG_CONFIG_DIRS``, else the platform's.
    """
    if around.platform == "win32":
        return Path(around.environ.get("PROGRAMDATA") or "C:\\ProgramData") / "entrepot"
    first = around.environ.get("XDG_CONFIG_DIRS", "").split(":")[0]
    if first and Path(first).is_absolute():
        return Path(first) / "entrepot"
    return Path(
        f"/{_APPLICATIONS}/entrepot" if around.platform == "darwin" else "/etc/xdg/entrepot"
    )


def cache_dir(around: Surroundings) -> Path:
    """Where the store lies unless it is set: the platform's user cache directory."""
    windows = "LOCALAPPDATA", "Local"
    base = _base(around, windows, "XDG_CACHE_HOME", "Library/Caches", ".cache")
    return base / ("entrepot/Cache" if around.platform == "win32" else "entrepot")


def state_dir(around: Surroundings) -> Path:
    """Where journals and what is known of other tools' caches lie: the user's state directory."""
    return state_folder(around.environ, around.home, around.platform)


def runtime_dirs(around: Surroundings) -> tuple[Path, ...]:
    """Where a run's runtime directory may lie, the preferred place first.

    Never in ``$TMPDIR``, which others may write, nor in ``$XDG_RUNTIME_DIR``, which a logout
    removes. Not in the cache directory itself: a store takes that for itself alone.
    """
    found = (state_dir(around) / "run", cache_dir(around).parent / "entrepot-run")
    with suppress(OSError, KeyError):
        # HOME is another user's, as `sudo` without `-H` leaves it: then in this user's own, too
        if around.euid >= 0 and around.home.stat().st_uid != around.euid:
            import pwd  # noqa: PLC0415  (not on Windows)

            own = Path(pwd.getpwuid(around.euid).pw_dir)
            if own.is_absolute() and own.stat().st_uid == around.euid:
                return (*found, *runtime_dirs(replace(around, environ={}, home=own)))
    return found
