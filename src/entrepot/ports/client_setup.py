"""What ``run`` must know of a command's clients to send them through the proxy.

It comes from what they would read themselves: configuration files, variables, the command line,
lock files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from entrepot.ports.tool import Surroundings


@dataclass(frozen=True, slots=True)
class Command:
    """The child's command line, and what surrounds it before its environment is changed."""

    argv: tuple[str, ...]
    around: Surroundings


@dataclass(frozen=True, slots=True)
class ProxyAddress:
    """What the child will be pointed at."""

    proxy: str
    """``http://USER:TOKEN@127.0.0.1:PORT``."""
    bundle: str
    """Path of the merged CA bundle."""
    offline: bool


@dataclass(frozen=True, slots=True)
class ClientSetup:
    """What one client needs; those of all clients are added up."""

    indexes: frozenset[str] = frozenset()
    """URLs of indexes, channels, find-links pages and direct files that the child was given,
    without userinfo."""
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
