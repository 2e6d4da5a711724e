"""Planning a run: what the tools say of a command, added up.

Which hosts are opened; and whom the door lets through.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from entrepot.errors import UsageError
from entrepot.httpcache.messages import RequestHead
from entrepot.lockfiles import Known, read_arguments, read_lock
from entrepot.loopback import is_loopback
from entrepot.ports.client_setup import Command, Door, Guide
from entrepot.stored import authority_of

if TYPE_CHECKING:
    from entrepot.serving.known_files import Facts

MAX_LOCK = 64 << 20
"""Bytes of a lock file that is read for digests."""
PACKAGE_CLIENTS = (
    "pip/",
    "uv/",
    "poetry/",
    "pdm/",
    "conda/",
    "mamba/",
    "libmamba/",
    "micromamba/",
    "rattler/",
    "pixi/",
    "twine/",
    "pipx/",
)
"""How package clients begin their ``User-Agent``. It decides only whether plain http is looked at,
never whether TLS is opened."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The guides' answers, added up."""

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
        """Whether an index stands on loopback, so that loopback must come to the door too."""
        return any(is_loopback(host) for host in self.hosts)


def make_plan(
    guides: Iterable[Guide], command: Command, door: Door | None, *, hosts: Iterable[str] = ()
) -> Plan:
    """Ask every guide.

    Args:
        guides: the tools that can be led.
        command: what will be started.
        door: where to; ``None`` before that is known.
        hosts: ``HOST[:PORT]`` that the user named.

    Raises:
        UsageError: a host that cannot be one.
    """
    answers = tuple(guide.guidance(command, door) for guide in guides)
    opened = {
        authority
        for answer in answers
        for url in answer.indexes
        if (authority := authority_of(url))
    }
    for text in hosts:
        opened |= set(named_host(text))
    environment: dict[str, str | None] = {}
    argv = command.argv
    for answer in answers:
        environment.update(answer.environment)
        argv = answer.argv if answer.argv is not None else argv
    closed = frozenset(authority for answer in answers for authority in answer.closed)
    return Plan(
        opened=frozenset(opened) - closed,
        closed=closed,
        hosts=frozenset(_split(authority)[0] for authority in opened - closed),
        bundles=_each(path for answer in answers for path in answer.bundles),
        environment=environment,
        argv=argv,
        warnings=_each(text for answer in answers for text in answer.warnings),
        locks=tuple(dict.fromkeys(path for answer in answers for path in answer.locks)),
    )


async def read_beforehand(paths: Iterable[Path], arguments: Sequence[str]) -> list[Known]:
    """What lock files and the command line say of digests.

    Files that cannot be read say nothing: the tool will complain.
    """
    import asyncio  # noqa: PLC0415  (not before the child has started)

    found = [read_arguments(arguments)]
    for path in paths:
        text = await asyncio.to_thread(_text, path)
        found.append(await asyncio.to_thread(read_lock, text, name=str(path)))
    return found


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_LOCK:
            return ""
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


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


class Opened:
    """Which hosts' traffic is looked at; the set only grows, by what pages name."""

    def __init__(self, plan: Plan, facts: Facts, *, offline: bool) -> None:
        self._opened = set(plan.opened)
        self._closed = plan.closed
        self._facts = facts
        self._offline = offline

    async def tls(self, host: str, port: int) -> bool:
        """Whether CONNECT to this host is answered by us.

        Offline every host is, because a refused tunnel is retried for seconds and tells nobody why.
        """
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if authority in self._closed:
            return False
        if self._knows(authority) or (self._offline and not is_loopback(host)):
            return True
        await self._facts.settled()
        return self._knows(authority)

    def request(self, request: RequestHead) -> bool:
        """Whether a request is for a package host.

        Plain http can be looked at, so there a package client is enough.
        """
        authority = authority_of(request.url)
        if not authority or authority in self._closed:
            return False
        if self._knows(authority) or speaks_packages(request):
            self._opened.add(authority)
            return True
        return self._offline and not is_loopback(_split(authority)[0])

    def _knows(self, authority: str) -> bool:
        return authority in self._opened or authority in self._facts.hosts


def speaks_packages(request: RequestHead) -> bool:
    """Whether a request is a package client's by its own words.

    PEP 691 types in ``Accept``, or its ``User-Agent``.
    """
    agent = (request.headers.get("user-agent") or "").lower()
    return "application/vnd.pypi.simple" in (
        request.headers.get("accept") or ""
    ) or agent.startswith(PACKAGE_CLIENTS)


def child_environment(
    environ: Mapping[str, str], *changes: Mapping[str, str | None]
) -> dict[str, str]:
    """The child's environment: ours, with changes laid over it in order.

    ``None`` removes a variable.
    """
    result: dict[str, str | None] = dict(environ)
    for each in changes:
        result.update(each)
    return {name: value for name, value in result.items() if value is not None}


def _split(authority: str) -> tuple[str, int]:
    host, _, port = authority.rpartition(":")
    return host.strip("[]"), int(port)


def _each(items: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))
