"""pip's configuration, read as pip reads it and edited by lines.

No comment is lost, as ``pip config`` loses them all.

Writes one file at a time, whole: a temporary file beside it, then a rename; mode, owner and a
symbolic link's target are kept. Undo is the caller's: a :class:`~entrepot.ports.tool.Change` says
what was there before.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from os.path import exists
from pathlib import Path

from entrepot.errors import ChangedSince, ConfigError
from entrepot.fs import write_atomically
from entrepot.patches import Patch, patch_of
from entrepot.ports.tool import Change, Surroundings
from entrepot.redaction import has_secret, redacted_url
from entrepot.tools.pip.conffile import (
    check_writable,
    mend,
    normalize_key,
    parse,
    with_value,
    without_key,
)
from entrepot.tools.pip.configuration import Level, Value, config_files, encoding_of, load
from entrepot.tools.pip.interpreters import Pip, pips
from entrepot.tools.pip.places import TRUTH, foreign_owner

_STRENGTH = {"global": 0, "user": 1, "site": 2, "env": 3}

_BOOLEAN = frozenset(
    (
        "no-cache-dir require-virtualenv no-input no-index pre disable-pip-version-check no-color "
        "debug isolated require-hashes no-deps no-dependencies user prefer-binary "
        "no-build-isolation no-compile compile ignore-installed force-reinstall "
        "break-system-packages no-clean ignore-requires-python upgrade no-warn-script-location "
        "no-warn-conflicts"
    ).split()
)
_COUNT = frozenset(("verbose", "quiet"))
_CHOICE = {
    "progress-bar": frozenset(("on", "off", "ascii", "pretty", "emoji", "auto", "raw")),
    "keyring-provider": frozenset(("auto", "disabled", "import", "subprocess")),
    "upgrade-strategy": frozenset(("eager", "only-if-needed")),
}


def check_value(key: str, value: str) -> None:
    """Refuse a value with which pip would stop; an empty one pip ignores.

    Raises:
        ConfigError: not a truth value, a number or one of the choices where pip wants one.
    """
    if not value:
        return
    name = key.partition(".")[2]
    wrong = ""
    if (name in _BOOLEAN and value.lower() not in TRUTH) or (
        name in _COUNT and value.lower() not in TRUTH and not value.isdigit()
    ):
        wrong = "yes or no"
    elif name in {"retries", "resume-retries"} and not value.isdigit():
        wrong = "a whole number"
    elif name == "timeout" and not _is_number(value):
        wrong = "a number of seconds"
    elif name in _CHOICE and value not in _CHOICE[name]:
        wrong = "one of " + ", ".join(sorted(_CHOICE[name]))
    if wrong:
        raise ConfigError(
            f"pip would stop at {key} = {value}: it wants {wrong}", name=key, value=value
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def split_name(name: str) -> tuple[str, str]:
    """Section and key of a setting; without a section ``global`` is meant.

    >>> split_name("cache_dir"), split_name("Install.No-Deps")
    (('global', 'cache-dir'), ('install', 'no-deps'))
    """
    section, dot, key = name.partition(".")
    if not dot:
        section, key = "global", name
    return section.lower().strip(), normalize_key(key.strip())


def masked(value: str) -> str:
    """A value for people: credentials in the URLs it holds are masked, white space is kept."""
    return " ".join(
        redacted_url(word) if "://" in word and has_secret(word) else word
        for word in value.split(" ")
    )


class PipSettings:
    """The configuration of one pip.

    Args:
        around: the world.
        pip: whose files; ``None``: the first one found.
        level: the level that ``set`` writes; ``None``: as pip chooses, the site file if it exists,
            else the user's.
    """

    def __init__(
        self, around: Surroundings, pip: Pip | None = None, *, level: Level | None = None
    ) -> None:
        self.around = around
        self.pip = pip or pips(around)[0]
        self.level = level

    def items(self) -> Iterable[tuple[str, str, str]]:
        """``(section.key, value, PATH:LINE or variable)``, weakest first; secrets masked."""
        for value in load(self.around, self.pip).values:
            if value.section != ":env:":
                yield f"{value.section}.{value.key}", masked(value.value), value.source
            elif value.key != "config-file":
                yield f":env:.{value.key}", masked(value.value), value.source

    def get(self, key: str) -> str | None:
        """The value in force for a section.

        Variables beat files, and ``[global]`` stands in for what the section lacks.
        """
        section, name = split_name(key)
        found = load(self.around, self.pip).get(name, section)
        return found.value if found else None

    def problems(self) -> list[tuple[Path, str]]:
        """Files that stop every pip command, each with a sentence that names the line."""
        return load(self.around, self.pip).broken

    def file(self) -> Path:
        """The file that ``set`` writes.

        Raises:
            ConfigError: pip was told to read no file at all.
        """
        files = config_files(self.around, self.pip)
        if not files:
            raise ConfigError(
                "PIP_CONFIG_FILE names the null device, so pip reads no configuration file",
                name="PIP_CONFIG_FILE",
                hint="unset PIP_CONFIG_FILE",
            )
        # The last file of a level is the one written
        by_level = {level: path for level, path in files}  # noqa: C416
        if self.level is not None and self.level in by_level:
            return by_level[self.level]
        if "env" in by_level and "user" not in by_level:
            return by_level["env"]
        return by_level["site"] if exists(by_level["site"]) else by_level["user"]

    def set(self, key: str, value: str) -> Change:
        """Set a key in the file that pip reads, so that it takes effect there.

        A stronger file that sets the same key already is changed in place of the usual one.

        Raises:
            ConfigError: the file is broken or may not be written, or pip would stop at the value.
        """
        section, name = split_name(key)
        check_writable(section, name, value)
        check_value(f"{section}.{name}", value)
        path = self._target(section, name)
        before = self._in_file(path, section, name)
        secret = has_secret(value) if "://" in value else False
        patch = self._edit(path, lambda text: with_value(text, section, name, value), secret=secret)
        native = f"pip config {self._flag(path)}set {section}.{name} {shlex.quote(value)}"
        return Change(path, f"{section}.{name}", before, value, native, patch=patch)

    def unset(self, key: str) -> Change:
        """Remove a key from the file that sets it (the strongest one).

        Raises:
            ConfigError: no file sets it, or the file is broken or may not be written.
        """
        section, name = split_name(key)
        holding = [
            v
            for v in self._values(section, name)
            if v.path is not None and (self.level is None or v.level == self.level)
        ]
        if not holding:
            variable = f"PIP_{name.upper().replace('-', '_')}"
            hint = (
                f"it comes from the variable {variable}: unset that"
                if variable in self.around.environ
                else ""
            )
            raise ConfigError(
                f"no configuration file sets {section}.{name}", name=f"{section}.{name}", hint=hint
            )
        last = holding[-1]
        assert last.path is not None
        patch = self._edit(last.path, lambda text: without_key(text, section, name))
        native = f"pip config {self._flag(last.path)}unset {section}.{name}"
        return Change(last.path, f"{section}.{name}", last.value, None, native, patch=patch)

    def restore(self, change: Change) -> Change:
        """Put back what a change replaced, in the file that it changed.

        Raises:
            ChangedSince: the key holds something else by now.
            ConfigError: the file is broken or may not be written.
        """
        section, name = split_name(change.key)
        path = change.path
        assert path is not None
        now = self._in_file(path, section, name)
        if now != change.after:
            raise ChangedSince(change.key, path)
        before = change.before

        def put_back(text: str) -> str:
            return (
                without_key(text, section, name)
                if before is None
                else with_value(text, section, name, before)
            )

        self._edit(path, change.patch.or_else(put_back) if change.patch else put_back)
        words = (
            f"unset {change.key}" if before is None else f"set {change.key} {shlex.quote(before)}"
        )
        return Change(
            path, change.key, change.after, before, f"pip config {self._flag(path)}{words}"
        )

    def export(self, key: str, value: str | None) -> tuple[str, Change]:
        """The variable that sets a key for every pip command, and what setting it would change.

        Raises:
            ConfigError: pip would stop at the value.
        """
        section, name = split_name(key)
        if value is not None:
            check_value(f"{section}.{name}", value)
        variable = f"PIP_{name.upper().replace('-', '_')}"
        return variable, Change(
            None, f"{section}.{name}", self.around.environ.get(variable), value, ""
        )

    def ask(self, change: Change) -> Change:
        """Ask pip whether a change arrived, and look whether another layer is stronger.

        Takes about half a second.
        """
        said, same = confirmed(change, self)
        section, name = split_name(change.key)
        force = load(self.around, self.pip).get(name, section if section != "global" else "install")
        stronger = force is not None and force.value != change.after
        if stronger and force is not None:
            value = masked(force.value)
            said = (
                f"{force.source}={value} is stronger"
                if force.source.startswith("PIP_")
                else f"{value} from {force.source} is stronger"
            )
        return replace(
            change,
            verified=said,
            differs=not same or (stronger and change.after is not None),
        )

    def mend(self) -> list[tuple[Path, list[str]]]:
        """Make every broken file readable; what was done to each, a sentence a thing."""
        done: list[tuple[Path, list[str]]] = []
        for path in dict.fromkeys(path for path, _ in self.problems()):
            text, sentences = mend(self._read(path))
            if sentences and not parse(text).problems:
                # The default binds this round's text
                self._edit(path, lambda _old, new=text: new)  # type: ignore[misc]
                done.append((path, sentences))
        return done

    def _values(self, section: str, name: str) -> list[Value]:
        return [
            v for v in load(self.around, self.pip).values if v.section == section and v.key == name
        ]

    def _in_file(self, path: Path, section: str, name: str) -> str | None:
        return next(
            (v.value for v in reversed(self._values(section, name)) if v.path == path), None
        )

    def _target(self, section: str, name: str) -> Path:
        usual = self.file()
        if self.level is not None:
            return usual
        levels = {path: _STRENGTH[level] for level, path in config_files(self.around, self.pip)}
        holding = [v.path for v in self._values(section, name) if v.path is not None]
        stronger = [path for path in holding if levels[path] >= levels[usual]]
        return stronger[-1] if stronger else usual

    def _flag(self, path: Path) -> str:
        level = next(
            (level for level, known in config_files(self.around, self.pip) if known == path), "user"
        )
        return "" if level == "env" else f"--{level} "

    def _read(self, path: Path) -> str:
        try:
            return path.read_bytes().decode(encoding_of(self.around.environ), "surrogateescape")
        except FileNotFoundError:
            return ""
        except OSError as exc:
            raise ConfigError(f"{path} cannot be read: {exc.strerror}", source=str(path)) from exc

    def _edit(
        self, path: Path, change: Callable[[str], str], *, secret: bool = False
    ) -> Patch | None:
        """Change a file; what that replaced, ``None`` when nothing."""
        before = self._read(path)
        try:
            after = change(before)
        except ConfigError as exc:
            raise ConfigError(
                f"{path}: {exc.message}",
                name=exc.name,
                value=exc.value,
                source=str(path),
                hint=exc.hint,
                fix=exc.fix,
            ) from exc
        if after == before:
            return None
        patch = patch_of(before, after, made=not exists(path))
        self._check_owner(path)
        encoding = encoding_of(self.around.environ)
        try:
            data = after.encode(encoding, "surrogateescape")
        except UnicodeEncodeError as exc:
            raise ConfigError(
                f"{path} is written in {encoding}, which cannot hold this value", source=str(path)
            ) from exc
        write_atomically(path, data, secret=secret)
        return patch

    def _check_owner(self, path: Path) -> None:
        """Root leaves the files of others to them.

        A new one would be root's, and its user could not change it any more.
        """
        owner = foreign_owner(path, self.around)
        if owner:
            raise ConfigError(
                f"{path} belongs to {owner}", source=str(path), hint="run entrepot as that user"
            )


def ask_pip(
    pip: Pip,
    words: Iterable[str],
    environ: Mapping[str, str],
    *,
    cwd: Path | None = None,
    timeout_s: float = 60,
) -> str:
    """What this pip itself answers to ``pip WORDS``: its stdout, or its error in brackets.

    The only function here that starts a process; it costs about 0.4 s.
    """
    command = [str(pip.python), "-m", "pip", "--disable-pip-version-check", *words]
    try:
        done = subprocess.run(
            command,
            env=dict(environ),
            cwd=cwd,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return f"[pip could not be asked: {exc}]"
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return f"[{lines[-1] if lines else f'pip ended with {done.returncode}'}]"
    return done.stdout.rstrip("\n")


def confirmed(change: Change, settings: PipSettings) -> tuple[str, bool]:
    """Ask pip whether a change arrived.

    ``pip config get`` of the key, and ``pip cache dir`` where the cache is concerned.

    Returns:
        What pip said, in a form for people, and whether that is what the change should make it say.
    """
    around = settings.around
    flag = settings._flag(change.path).split() if change.path else []  # noqa: SLF001  # one module
    said = ask_pip(
        settings.pip, ["config", *flag, "get", change.key], around.environ, cwd=around.cwd
    )
    absent = said.startswith("[") and "No such key" in said
    same = absent if change.after is None else said == change.after
    text = f"{change.key} is {'not set' if absent else masked(said)}"
    if change.key.endswith("cache-dir"):
        folder = ask_pip(settings.pip, ["cache", "dir"], around.environ, cwd=around.cwd)
        text = f"its cache is {folder}" if same else f"{text}; its cache is {folder}"
    return text, same
