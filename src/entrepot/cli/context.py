"""What every command is given: its arguments, the output, the settings and the tools.

Nothing is read until it is asked for.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from entrepot.cli.output import Output, explained
from entrepot.config.settings import Settings, load_settings
from entrepot.errors import ConfigError
from entrepot.ports.tool import Surroundings

if TYPE_CHECKING:
    from entrepot.errors import EntrepotError
    from entrepot.ports.tool import Tool


class Context:
    """One invocation.

    Args:
        args: the parsed command line.
        out: where to write.
        around: environment, home, working directory and platform.
    """

    def __init__(self, args: argparse.Namespace, out: Output, around: Surroundings) -> None:
        self.args = args
        self.out = out
        self.around = around
        self.incomplete = False
        """Whether a cache could not be read: the command is then partly done."""

    def complain(self, tool: str, exc: EntrepotError | OSError) -> None:
        """Name a cache that could not be read; the others are gone through all the same."""
        _, text, hint = explained(exc)
        self.out.warn("unreadable", f"{tool}: {text}", hint=hint)
        self.incomplete = True

    def warn_of_settings(self) -> None:
        """Name what stands in entrepot's own configuration and is not obeyed."""
        for complaint in self.settings.complaints:
            self.out.warn(complaint.id, complaint.text, hint=complaint.fix)

    def nothing_found(self, what: str) -> None:
        """The one sentence for an empty answer: it names what was looked for."""
        self.out.note(f"Nothing found: {what}.")

    def no_cache(self) -> str:
        """What :meth:`nothing_found` says when no cache holds anything."""
        names = ", ".join(tool.name for tool in self.tools)
        return f"no cache of {names} holds anything yet"

    @cached_property
    def settings(self) -> Settings:
        """The settings of entrepot.

        Read at the first call, so that a broken file does not stop ``config edit``.

        Raises:
            ConfigError: they cannot be read.
        """
        return load_settings(self.around, self.args.store)

    @cached_property
    def tools(self) -> Sequence[Tool]:
        """The tools that the command is about: those of ``--tool``, else all.

        Raises:
            UsageError: ``--tool`` names one that does not exist.
        """
        from entrepot.cli import wiring

        return wiring.tools(self.settings, self.around, self.args.tool or (), self.out.meter())

    @property
    def now(self) -> float:
        """The time of day, seconds since the epoch."""
        return time.time()

    def close(self) -> None:
        """Close what was opened."""
        for tool in self.__dict__.get("tools", ()):
            tool.close()


def surroundings(environ: Mapping[str, str] | None = None) -> Surroundings:
    """The real world, as tools want to be told of it.

    Raises:
        ConfigError: the home directory is not known.
    """
    environ = dict(os.environ if environ is None else environ)
    try:
        cwd = Path.cwd()
    except FileNotFoundError:  # the directory was removed under us
        cwd = Path(os.sep).absolute()
    platform = (
        "win32" if sys.platform == "win32" else ("darwin" if sys.platform == "darwin" else "linux")
    )
    return Surroundings(
        environ=environ,
        home=_home(environ),
        cwd=cwd,
        platform=platform,  # type: ignore[arg-type]
        euid=os.geteuid() if hasattr(os, "geteuid") else -1,
    )


def _home(environ: Mapping[str, str]) -> Path:
    """``HOME``, else what the system has for this user.

    A relative path would mean another place in each directory.
    """
    home = environ.get("HOME", "")
    if not home and sys.platform == "win32":
        home = os.path.expanduser("~")
    elif not home:
        import pwd  # expanduser would take an empty HOME for /

        with suppress(KeyError):
            home = pwd.getpwuid(os.getuid()).pw_dir
    if os.path.isabs(home):
        return Path(home)
    why = (
        f"{home!r} is not an absolute path" if home else "HOME is not set, and the system has none"
    )
    text = f"the home directory is not known: {why}"
    raise ConfigError(text, name="HOME", hint="set HOME to a directory of yours")
