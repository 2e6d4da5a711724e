"""What ``run`` must know of a tool to lead it through the proxy: its guide (``tools/*/child.py``).

A guide reads what the tool would read (configuration files, variables, the command line, lock
files) and answers which hosts serve its packages, which variables lead it, which of its settings
would lead it astray, and which digests are already known. It changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from entrepot.ports.tool import Surroundings


@dataclass(frozen=True, slots=True)
class Command:
    """The child's command line and the world it will start in (before anything is added to its environment)."""

    argv: tuple[str, ...]
    around: Surroundings


@dataclass(frozen=True, slots=True)
class Door:
    """What the child will be pointed at."""

    proxy: str
    """``http://USER:TOKEN@127.0.0.1:PORT``."""
    bundle: str
    """Path of the merged CA bundle."""
    offline: bool


@dataclass(frozen=True, slots=True)
class Guidance:
    """One tool's answer; guides' answers are added up."""

    indexes: frozenset[str] = frozenset()
    """URLs of indexes, channels, find-links pages and direct files that the child was told of, with
    userinfo removed."""
    closed: frozenset[str] = frozenset()
    """``HOST:PORT`` for which the child holds a client certificate: tunnelled, never opened."""
    environment: Mapping[str, str | None] = field(default_factory=dict)
    """Variables for the child beyond the common ones; ``None`` removes one."""
    argv: tuple[str, ...] | None = None
    """A changed command line, when a flag has to be neutralised; ``None``: as it was."""
    bundles: tuple[str, ...] = ()
    """Paths of CA files that the tool's own settings name: to be merged."""
    warnings: tuple[str, ...] = ()
    """Settings that cannot be neutralised, a sentence each, for the last line."""
    locks: tuple[Path, ...] = ()
    """Lock files and requirement files that the child will read: their digests are learned
    beforehand."""


class Guide(Protocol):
    """A tool that can be led."""

    name: str

    def guidance(self, command: Command, door: Door | None) -> Guidance:
        """Everything at once. With ``door=None`` only what does not depend on it (indexes, bundles, links)."""
        ...
