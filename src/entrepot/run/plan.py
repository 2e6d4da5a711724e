"""Planning a run: what the tools' client set-up says of a command, added up."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from entrepot.errors import UsageError
from entrepot.lockfiles import Known, read_arguments, read_lock
from entrepot.ports.client_setup import ClientSetup
from entrepot.urls import authority_of, is_loopback

MAX_LOCK = 64 << 20
"""Bytes of a lock file that is read for digests."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The set-ups of all clients, added up."""

    opened: frozenset[str]
    """``HOST:PORT`` whose traffic is opened and cached."""
    closed: frozenset[str]
    """``HOST:PORT`` that is never opened: the child holds a client certificate for it."""
    hosts: frozenset[str]
    """Host names among ``opened``."""
    bundles: tuple[str, ...]
    environment: Mapping[str, str | None]
    argv: tuple[str, ...]
    warnings: tuple[str, ...]
    locks: tuple[Path, ...]
    """Files whose digests are to be learned beforehand."""

    @property
    def loopback(self) -> bool:
        """Whether an index stands on loopback, so that loopback must come to the proxy too."""
        return any(is_loopback(host) for host in self.hosts)


def make_plan(
    setups: Iterable[ClientSetup], argv: tuple[str, ...], *, hosts: Iterable[str] = ()
) -> Plan:
    """What every client set-up says of a command, added up.

    ``hosts`` are ``HOST[:PORT]`` that the user named.

    Raises:
        UsageError: a host that cannot be one.
    """
    setups = tuple(setups)
    opened = {authority_of(url) for setup in setups for url in setup.indexes} - {""}
    opened |= {authority for text in hosts for authority in named_host(text)}
    environment: dict[str, str | None] = {}
    for setup in setups:
        environment.update(setup.environment)
        argv = setup.argv if setup.argv is not None else argv
    closed = frozenset(authority for setup in setups for authority in setup.closed)
    return Plan(
        opened=frozenset(opened) - closed,
        closed=closed,
        hosts=frozenset(each.rpartition(":")[0].strip("[]") for each in opened - closed),
        bundles=tuple(dict.fromkeys(path for setup in setups for path in setup.bundles)),
        environment=environment,
        argv=argv,
        warnings=tuple(dict.fromkeys(text for setup in setups for text in setup.warnings)),
        locks=tuple(dict.fromkeys(path for setup in setups for path in setup.locks)),
    )


async def read_beforehand(paths: Iterable[Path], arguments: Sequence[str]) -> list[Known]:
    """What lock files and the command line say of digests.

    Files that cannot be read say nothing: the tool will complain.
    """
    import asyncio  # noqa: PLC0415  (not before the child has started)

    def read(path: Path) -> Known:
        try:
            is_read = path.stat().st_size <= MAX_LOCK
            text = path.read_text(encoding="utf-8", errors="replace") if is_read else ""
        except OSError:
            text = ""
        return read_lock(text, name=str(path))

    return [read_arguments(arguments), *[await asyncio.to_thread(read, path) for path in paths]]


def named_host(text: str) -> tuple[str, ...]:
    """What ``--host`` means: ``HOST:PORT``, or ``HOST`` for both usual ports.

    A URL is taken for its host.

    >>> named_host("index.test")
    ('index.test:443', 'index.test:80')
    """
    if "://" in text:
        authority = authority_of(text)
        if not authority:
            raise UsageError(f"--host {text}: only http and https can be cached")
        return (authority,)
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not _HOST(host) or parts.path or parts.query or "@" in text:
        raise UsageError(
            f"--host {text}: that is not HOST or HOST:PORT",
            hint="for example --host index.example.org:8443",
        )
    shown = f"[{host}]" if ":" in host else host
    return (f"{shown}:{port}",) if port else (f"{shown}:443", f"{shown}:80")


_HOST = re.compile(r"[\w.-]+|[0-9a-f:.]+").fullmatch
"""A name, which need not be ASCII, or an address."""


def child_environment(
    environ: Mapping[str, str], *changes: Mapping[str, str | None]
) -> dict[str, str]:
    """The child's environment: ours with changes over it, in order; ``None`` removes a variable."""
    result: dict[str, str | None] = dict(environ)
    for each in changes:
        result.update(each)
    return {name: value for name, value in result.items() if value is not None}
