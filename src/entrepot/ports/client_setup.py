"""What ``run`` must know of a tool to lead it through the proxy: ``tools/*/child.py``.

A client setup reads what the tool would read (configuration files, variables, the command line,
lock files) and answers which hosts serve its packages, which variables lead it, which of its
settings would lead it astray, and which digests are already known. It changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

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
class SetupAnswer:
    """One tool's answer; the answers of all are added up."""

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


class ClientSetup(Protocol):
    """A tool that can be led."""

    name: str

    def answer(self, command: Command, proxy: ProxyAddress | None) -> SetupAnswer:
        """Everything at once; with ``proxy=None`` only what does not depend on it."""
        ...
