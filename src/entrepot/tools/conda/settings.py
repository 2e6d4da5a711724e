"""The configuration of conda and of mamba: read as each merges it, edited by lines.

A list takes ``set KEY A,B`` for its entries in the file, and ``KEY.prepend``, ``KEY.append`` and
``KEY.remove`` for one entry: ``entrepot config --tool conda set pkgs_dirs.prepend /data/pkgs``.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from entrepot.edits import edit_file, masked, read_bytes
from entrepot.errors import ConfigError
from entrepot.ports.tool import Change, Settings, Surroundings
from entrepot.tools._shared.safe_read import is_file
from entrepot.tools.conda import condarc, pkgs_dirs
from entrepot.tools.conda.condarc import Document, read_yaml
from entrepot.tools.conda.edit import BY_HAND, with_item, with_scalar, without_item, without_key
from entrepot.tools.conda.platform_paths import expand_user
from entrepot.tools.conda.roots import Root, conda_roots, mamba_roots

LISTS = frozenset(
    (
        "aggressive_update_packages allowlist_channels channels create_default_packages "
        "default_channels denylist_channels disallowed_packages envs_dirs experimental "
        "export_platforms list_fields migrated_channel_aliases pinned_packages pkgs_dirs preview "
        "repodata_fns shortcuts_only subdirs track_features whitelist_channels"
    ).split()
)
"""Keys that hold a list of texts. Source: ``conda config --describe --json``, conda 26.7."""
_OTHERS = frozenset(
    (
        "add_anaconda_token add_binstar_token add_pip_as_python_dependency allow_non_channel_urls "
        "allow_softlinks always_copy always_softlink always_yes anaconda_upload auto_activate "
        "auto_activate_base auto_stack auto_update_conda bld_path changeps1 channel_alias "
        "channel_priority channel_settings client_ssl_cert client_ssl_cert_key conda_build console "
        "croot custom_channels custom_multichannels default_activation_env default_threads "
        "env_prompt environment_specifier envvars_force_uppercase exclude_newer "
        "exclude_newer_package execute_threads extra_safety_checks fetch_threads force_32bit "
        "force_reinstall json local_repodata_ttl migrated_custom_channels no_lock no_plugins "
        "non_admin_enabled notify_outdated_conda number_channel_notices offline "
        "override_channels_enabled override_virtual_packages path_conflict "
        "prefix_data_interoperability proxy_servers quiet register_envs remote_backoff_factor "
        "remote_connect_timeout_secs remote_max_retries remote_read_timeout_secs repodata_threads "
        "repodata_use_shards repodata_use_zst report_errors rollback_enabled root_prefix "
        "safety_checks separate_format_cache shortcuts show_channel_urls signing_metadata_url_base "
        "solver ssl_verify unsatisfiable_hints unsatisfiable_hints_check_depth use_only_tar_bz2 "
        "verbosity verify_threads"
    ).split()
)
"""All other keys. Plugins bring more: a name that resembles none of these is let through."""
_SHELL = frozenset(
    (
        "CONDA_EXE CONDA_PREFIX CONDA_SHLVL CONDA_DEFAULT_ENV CONDA_PROMPT_MODIFIER "
        "CONDA_PYTHON_EXE CONDA_ROOT CONDA_BAT CONDA_PREFIX_1 CONDA_PREFIX_2 CONDA_PREFIX_3"
    ).split()
)
"""Variables that activation sets; they are no settings."""


@dataclass(frozen=True, slots=True)
class _Program:
    """What tells the two apart: the user's usual file, and where it looks for all others."""

    name: str
    file: str
    roots: Callable[[Surroundings], Sequence[Root]]
    resolve: Callable[[Surroundings, str], pkgs_dirs.Resolved]
    search_path: Callable[[Surroundings, str, str], list[str]]


class RcSettings(Settings):
    """The configuration of one of the two.

    Args:
        around: environment, home and platform.
    """

    program: ClassVar[_Program]

    def __init__(self, around: Surroundings) -> None:
        self.around = around
        self._roots = self.program.roots(around)
        self._root = str(self._roots[0].path) if self._roots else ""

    def file(self) -> Path:
        """The user's own file."""
        return self.around.home / self.program.file

    def items(self) -> Iterable[tuple[str, str, str]]:
        """``(key, value, PATH:LINE or variable)``, weakest first, one per item; secrets masked."""
        for document in self._resolved().documents:
            for key in document.values:
                yield from _rows(document, key)
        for name, value in self.around.environ.items():
            if name.startswith("CONDA_") and name not in _SHELL and value:
                yield name.removeprefix("CONDA_").lower(), masked(value, name), name

    def get(self, key: str) -> str | None:
        """The value in force; lists comma-separated, strongest first, caches expanded."""
        if key == "pkgs_dirs":
            return ",".join(cache.path for cache in self._resolved().caches)
        found = [value for name, value, _ in self.items() if name == key]
        if not found:
            return None
        return ",".join(dict.fromkeys(reversed(found))) if key in LISTS else found[-1]

    def problems(self) -> list[tuple[Path, str]]:
        """Files that conda skips or stops at, each with a sentence that names the line."""
        return [
            (document.path, text.removeprefix(f"{document.path}:").strip())
            for document in self._resolved().documents
            for text in [document.problem, *(value.problem for value in document.lists.values())]
            if text
        ]

    def set(self, key: str, value: str) -> Change:
        """Set a scalar, or a list's entries in the file.

        See the top for ``KEY.prepend`` and the like: an entry that is there moves; one is removed
        from the strongest file that has it, as it is written there.
        """
        name, _, verb = key.partition(".")
        if right := meant(name):
            hint = f"{right} is one"
            raise ConfigError(f"{self.program.name} has no setting {name}", name=name, hint=hint)
        edits: dict[str, Callable[[str], str]] = {
            "": lambda text: with_scalar(text, name, value),
            "prepend": lambda text: with_item(text, name, value, "first"),
            "append": lambda text: with_item(text, name, value, "last"),
            "remove": lambda text: without_item(text, name, value),
        }
        if verb not in edits:
            why = f"{key}: entries of a mapping are not edited here"
            raise ConfigError(
                why, name=key, hint=f"entrepot config --tool {self.program.name} edit"
            )
        if verb in {"prepend", "append"} and name == "pkgs_dirs" and not value.strip():
            why = f"an empty entry is whatever directory {self.program.name} is started in"
            raise ConfigError(why, name=name, value=value)
        if verb == "remove":
            path = self._holder(name, value)
        else:
            path = self.file() if verb else self._target(name)
        if verb or name not in LISTS:
            return self._change(path, name, edits[verb], verb or "set", value)
        wanted = [each.strip() for each in value.split(",") if each.strip()]

        def set_list(text: str) -> str:
            listed = read_yaml(path, text).lists.get(name)
            gone = [item.text for item in listed.items if item.text not in wanted] if listed else []
            for each in reversed(wanted):
                text = with_item(text, name, each, "first")
            for each in gone:
                text = without_item(text, name, each)
            return text

        change = self._change(path, name, set_list, "set")
        commands = [] if change.before is None else [self._native(path, "remove-key", name)]
        commands += [self._native(path, "append", name, each) for each in wanted]
        return replace(change, native="; ".join(commands))

    def unset(self, key: str) -> Change:
        """Remove a key from the strongest file that sets it."""
        path = self._holder(key)
        return self._change(path, key, lambda text: without_key(text, key), "remove-key")

    def export(self, key: str, value: str | None) -> tuple[str, Change]:
        """The variable that stands for a key.

        For ``pkgs_dirs`` it stands in front of what files say and separates by commas.
        """
        name, _, verb = key.partition(".")
        if verb:
            raise ConfigError(f"a variable holds all of {name}, not one entry", name=key)
        variable = f"CONDA_{name.upper()}"
        return variable, Change(None, name, self.around.environ.get(variable), value, "")

    def _resolved(self) -> pkgs_dirs.Resolved:
        """Every file that is read, weakest first, and the caches in force."""
        return self.program.resolve(self.around, self._root)

    @abstractmethod
    def _native(self, path: Path, verb: str, key: str, value: str = "") -> str:
        """The tool's own command for a change of one file.

        ``verb`` is ``set``, ``prepend``, ``append``, ``remove`` or ``remove-key``, without a value.
        """

    def _target(self, key: str) -> Path:
        """The file that ``conda config`` writes, or the last stronger one that sets the key."""
        usual, around = self.file(), self.around
        prefix = around.environ.get("CONDA_PREFIX") or self._root
        searched = self.program.search_path(around, self._root, prefix)
        order = [around.cwd / expand_user(each, around) for each in searched]

        def rank(file: Path) -> int:
            return next((order.index(each) for each in (file, file.parent) if each in order), -1)

        documents = [d for d in self._resolved().documents if rank(d.path) >= rank(usual)]
        return next((d.path for d in reversed(documents) if key in d.values), usual)

    def _holder(self, key: str, entry: str | None = None) -> Path:
        for document in reversed(self._resolved().documents):
            listed = document.lists.get(key)
            entries = [item.text for item in listed.items] if listed else []
            if not document.problem and (
                key in document.values if entry is None else entry in entries
            ):
                return document.path
        variable = f"CONDA_{key.upper()}"
        known = self.around.environ.get(variable)
        raise ConfigError(
            f"no condarc sets {key if entry is None else f'{key} to {entry!r}'}",
            name=key,
            value=entry or "",
            hint=f"it comes from the variable {variable}: unset that" if known else "",
        )

    def _change(
        self, path: Path, key: str, edit: Callable[[str], str], verb: str, value: str = ""
    ) -> Change:
        before = _value(path, key)
        try:
            patch = edit_file(path, edit)
        except ConfigError as exc:  # the editor does not know which tool it works for
            exc.hint = exc.hint.replace(BY_HAND, f"entrepot config --tool {self.program.name} edit")
            raise
        native = self._native(path, verb, key, value)
        return Change(path, key, before, _value(path, key), native, patch=patch)


class CondaSettings(RcSettings):
    """The configuration of the conda in use; its usual file is ``~/.condarc``."""

    program = _Program("conda", ".condarc", conda_roots, pkgs_dirs.resolve, condarc.search_path)

    def ask(self, change: Change) -> Change:
        """Ask conda what the key is now (about a second), and compare with our own working out.

        Nothing is said where no conda answers. conda masks ``/t/TOKEN/`` in what it shows, also as
        JSON (conda 26.7, by experiment): such an answer proves nothing.
        """
        said, key = self._said(change.key), change.key
        if said is None or "<TOKEN>" in said:
            return change
        if key == "pkgs_dirs":
            return replace(change, verified=masked(said, key), differs=said != self.get(key))
        wanted = said if key in LISTS or change.after is None else change.after
        differs = wanted.lower() != said.lower()
        return replace(change, verified=masked(said, key), differs=differs)

    def _said(self, key: str) -> str | None:
        """What ``conda config --show KEY`` says, a list's entries separated by commas."""
        named = self.around.environ.get("CONDA_EXE")
        windows = self.around.platform == "win32"
        names = ("Scripts/conda.exe",) if windows else ("bin/conda", "condabin/conda")
        places = [Path(named)] if named else []
        places += [root.path / name for root in self._roots for name in names]
        conda = next((path for path in places if is_file(path)), None)
        if conda is None:
            return None
        try:
            done = subprocess.run(
                [str(conda), "config", "--show", key, "--json"],
                env=dict(self.around.environ),
                cwd=self.around.cwd,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            data: Any = json.loads(done.stdout)
        except (OSError, ValueError, subprocess.TimeoutExpired):
            return None
        value = data.get(key) if isinstance(data, dict) else None
        if isinstance(value, list):
            return ",".join(str(each) for each in value)
        return None if isinstance(value, dict) else _shown(value)

    def _native(self, path: Path, verb: str, key: str, value: str = "") -> str:
        flag = f"--file {shlex.quote(str(path))} "
        if path == self.file():
            flag = ""
        elif self._root and path == Path(self._root) / ".condarc":
            flag = "--system "
        words = f"conda config {flag}--{verb} {key}"
        return f"{words} {shlex.quote(value)}" if value else words


class MambaSettings(RcSettings):
    """The configuration of the mamba or micromamba in use. mamba itself is not asked.

    The usual file is ``~/.mambarc``, the strongest of the user's own: mamba's ``config`` writes
    ``mambarc`` in the configuration folder, which ``~/.condarc`` beats. That command rewrites a
    file whole and keeps no comment.

    Source: ``mamba config prepend KEY VALUE --file FILE``, read.
    """

    program = _Program(
        "mamba", ".mambarc", mamba_roots, pkgs_dirs.resolve_mamba, pkgs_dirs.mamba_search_path
    )

    def _native(self, path: Path, verb: str, key: str, value: str = "") -> str:
        words = f"{key} {shlex.quote(value)}" if value else key
        return f"mamba config {verb} {words} --file {shlex.quote(str(path))}"


def meant(name: str) -> str:
    """The setting that a misspelt name stands for; empty when it is one, or resembles none.

    >>> meant("pkgs_dir"), meant("pkgs_dirs"), meant("my_plugins_key")
    ('pkgs_dirs', '', '')
    """
    if name in LISTS or name in _OTHERS:
        return ""
    import difflib  # noqa: PLC0415  # only for a name that is none

    close = difflib.get_close_matches(
        name.lower().replace("-", "_"), [*LISTS, *_OTHERS], n=1, cutoff=0.85
    )
    return close[0] if close else ""


def _rows(document: Document, key: str) -> Iterator[tuple[str, str, str]]:
    value, line = document.values[key], document.lines.get(key, 0)
    if key in document.lists:
        for item in document.lists[key].items:
            yield key, masked(item.text, key), f"{document.path}:{item.line or line}"
    elif isinstance(value, dict):
        for inner_key, inner in value.items():
            name = f"{key}.{inner_key}"
            yield name, masked(str(inner), name), f"{document.path}:{line}"
    elif value is not None:
        yield key, masked(_shown(value) or "", key), f"{document.path}:{line}"


def _shown(value: Any) -> str | None:
    return None if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _value(path: Path, key: str) -> str | None:
    document = read_yaml(path, read_bytes(path).decode("utf-8", "surrogateescape"))
    if key in document.lists:
        return ",".join(item.text for item in document.lists[key].items)
    return _shown(document.values.get(key))
