"""Where adapters are picked.

The only module of the command line that names a store, a catalogue or a tool's folder. What each
function needs is imported in it: the quick commands load nothing of a run.
"""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from entrepot.errors import ConfigError, StoreUnavailable, UsageError

if TYPE_CHECKING:
    from entrepot.caches.own import OwnCache
    from entrepot.config.settings import Settings
    from entrepot.ports.catalogue import Catalogue
    from entrepot.ports.client_setup import ClientSetup, Command, ProxyAddress
    from entrepot.ports.reuse import ReuseSource
    from entrepot.ports.store import Store
    from entrepot.ports.tool import Progress, Surroundings, Tool
    from entrepot.server.proxy import Dial, Streams
    from entrepot.serving.known_files import KnownFiles
    from entrepot.store.catalogue import SqliteCatalogue
    from entrepot.store.directory import DirectoryStore
    from entrepot.tools._shared.quota import Quota as Quota  # noqa: PLC0414 - `status` has it from here
    from entrepot.upstream.client import HttpUpstream
    from entrepot.upstream.trust import Bundle

RESOLVE = "ENTREPOT_RESOLVE"
"""The variable of :func:`read_resolve`."""


def open_store(
    settings: Settings, *, create: bool = True
) -> tuple[DirectoryStore, SqliteCatalogue]:
    """The store that the settings name and its catalogue, neither of them read yet.

    Args:
        settings: where it is and its cap.
        create: whether it may be made.

    Raises:
        StoreUnavailable: it cannot be opened.
    """
    from entrepot.store.catalogue import open_catalogue
    from entrepot.store.directory import DirectoryStore

    cap = sys.maxsize if settings.limit_total is None else settings.limit_total
    catalogue = open_catalogue(settings.store)
    return DirectoryStore(settings.store, cap=cap, create=create, stamps=catalogue), catalogue


@dataclass(frozen=True, slots=True)
class RunStore:
    """What a run keeps things in, and how that is looked after."""

    store: Store
    catalogue: Catalogue
    make_room: Callable[[], int | None]
    """Brings the store below its cap; bytes that are free below it then. For threads, one at a
    time."""
    sweep: Callable[[Callable[[], bool]], object]
    """Removes stale files once a day; asks whether it shall stop. For a thread."""
    close: Callable[[], None]
    has_no_locks: Callable[[], bool] = lambda: False
    """Whether files were found not to be lockable there: then the store is for one process at a
    time."""
    changed: Collection[str] = ()
    """Bodies found changed on the disk so far; it grows."""
    trouble: StoreUnavailable | None = None
    """Why this is no store on disk but one that keeps nothing."""


def open_run_store(settings: Settings) -> RunStore:
    """The store that the settings name, for a run.

    One that keeps nothing where that cannot be opened.

    A command must not fail because its cache cannot be opened. But a ``--store`` that cannot be a
    store is a mistake in the command line, and said at once.

    Raises:
        StoreUnavailable: ``--store`` names something that is not a store and cannot become one.
    """
    from entrepot.store.catalogue import SqliteCatalogue, open_catalogue
    from entrepot.store.null import NullStore

    try:
        store, catalogue = open_store(settings)
    except StoreUnavailable as exc:
        cause = exc.__cause__
        is_circumstance = isinstance(cause, OSError) and cause.errno in _CIRCUMSTANCES
        if settings.said["store"][0].kind == "option" and not is_circumstance:
            raise
        lost = SqliteCatalogue(None)
        return RunStore(
            NullStore(), lost, lambda: None, lambda _is_over: None, lost.close, trouble=exc
        )
    # A connection of its own: the loop's never waits for what a thread has begun.
    aside = open_catalogue(settings.store)

    def close() -> None:
        for each in (aside, catalogue, store):
            each.close()

    return RunStore(
        store,
        catalogue,
        lambda: store.evict(aside).room,
        lambda is_over: store.sweep_when_due(aside, is_over=is_over),
        close,
        has_no_locks=lambda: not store.locks,
        changed=store.changed,
    )


_CIRCUMSTANCES = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.EIO,
        errno.ESTALE,
        errno.EMFILE,
        errno.ENFILE,
    }
)
"""Refusals of the system that have nothing to do with which place was named."""


def upstream(
    settings: Settings, environ: Mapping[str, str], bundles: Iterable[str]
) -> tuple[HttpUpstream, Dial]:
    """What asks upstream, by the user's own proxy and CA settings.

    And what dials tunnels and upgraded connections, in the same way.
    """
    from entrepot.upstream.client import HttpUpstream, UpstreamSettings, open_tunnel
    from entrepot.upstream.proxies import ProxyRules
    from entrepot.upstream.trust import merged_bundle

    reach = UpstreamSettings(
        silence_timeout_s=settings.timeout_s,
        ca_pem=merged_bundle(environ, map(Path, bundles), directories=True).pem,
        proxies=ProxyRules.from_environ(environ),
        resolve=read_resolve(environ),
    )

    async def dial(host: str, port: int, tls: bool) -> Streams:
        return await open_tunnel(host, port, reach, tls=tls)

    return HttpUpstream(reach), dial


def trusted(environ: Mapping[str, str], bundles: Iterable[str]) -> Bundle:
    """The roots that the child trusts beside the run's own."""
    from entrepot.upstream.trust import merged_bundle

    return merged_bundle(environ, map(Path, bundles))


def client_setups(command: Command, proxy: ProxyAddress | None) -> dict[str, ClientSetup]:
    """What each client's setup says of a command, by the client's name."""
    from entrepot.tools.client_setup import clients

    return clients.client_setups(command, proxy)


def donors(around: Surroundings) -> list[ReuseSource]:
    """The caches of all tools that may hold what a URL brings."""
    from entrepot.tools import registry

    return registry.donors(around)


def common_environment(
    environ: Mapping[str, str], proxy: ProxyAddress, *, loopback_open: bool, hosts: Collection[str]
) -> dict[str, str | None]:
    """The variables that lead every client to the proxy."""
    from entrepot.tools.client_setup import proxy_environment

    return proxy_environment.common_environment(
        environ, proxy, loopback_open=loopback_open, hosts=hosts
    )


def outer_run(environ: Mapping[str, str]) -> str | None:
    """``HOST:PORT`` of the run that leads this process already."""
    from entrepot.tools.client_setup import proxy_environment

    return proxy_environment.outer_run(environ)


def known_files(catalogue: Catalogue) -> KnownFiles:
    """What is known of files beforehand: of the catalogue, and of the path digests in URLs."""
    from entrepot.serving.known_files import KnownFiles
    from entrepot.simple.page import path_digest
    from entrepot.tools._shared.defaults import files_host

    host = files_host()
    return KnownFiles(catalogue, lambda url: path_digest(url, host) if host else None)


def read_resolve(environ: Mapping[str, str]) -> dict[str, tuple[str, int]]:
    """Where to connect instead of looking a name up, as curl's ``--resolve``.

    Raises:
        ConfigError: ``ENTREPOT_RESOLVE`` is not ``HOST:PORT=ADDRESS:PORT``, several with commas.

    >>> read_resolve({"ENTREPOT_RESOLVE": "index.test:443=127.0.0.1:8443"})
    {'index.test:443': ('127.0.0.1', 8443)}
    """
    found, text = {}, environ.get(RESOLVE, "")
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, _, target = part.partition("=")
        address, _, port = target.rpartition(":")
        if ":" not in name or not address or not port.isdigit():
            raise ConfigError(
                f"{part!r} is not HOST:PORT=ADDRESS:PORT", name=RESOLVE, value=text, source=RESOLVE
            )
        found[name.lower()] = (address.strip("[]"), int(port))
    return found


def own_cache(
    settings: Settings, around: Surroundings, progress: Progress | None = None
) -> OwnCache:
    """The store behind the tool port.

    A catalogue that is new or was lost is made again at its first use, with progress.
    """
    from entrepot.caches.own import OwnCache
    from entrepot.config.file import OwnSettings
    from entrepot.ports.catalogue import Opened
    from entrepot.store import layout

    def opened() -> Opened:
        store, catalogue = open_store(settings, create=False)
        if catalogue.needs_rebuild:
            catalogue.rebuild(
                store, progress=(lambda done: progress(done, None, "entries")) if progress else None
            )
        return Opened(store, catalogue)

    layers = settings.layers("store")
    return OwnCache(
        settings.store,
        layers=layers,
        directory=layout,
        open_store=opened,
        settings=OwnSettings(around),
        now=time.time,
    )


def quotas(settings: Settings, around: Surroundings) -> list[Quota]:
    """The user's limits, from the site's command or the ``quota`` program.

    Raises:
        EntrepotError: the site's command failed.
    """
    from entrepot.tools._shared.quota import told_by, told_by_quota

    if settings.quota_command:
        return told_by(settings.quota_command, around.environ)
    return told_by_quota(around.environ)


_CALLED = {"micromamba": "mamba", "pixi": "rattler"}
"""Programs whose caches are those of a tool with another name."""


def tool_names() -> list[str]:
    """Every tool there is: the own cache, and those of the registry."""
    from entrepot.caches import NAME
    from entrepot.tools.registry import TOOL_NAMES

    return [NAME, *TOOL_NAMES]


def tools(
    settings: Settings,
    around: Surroundings,
    names: Iterable[str] = (),
    progress: Progress | None = None,
) -> Sequence[Tool]:
    """The tools of these names in this order; all of them without a name. Only theirs are imported.

    Raises:
        UsageError: an unknown name.
    """
    from entrepot.caches import NAME
    from entrepot.tools.registry import tool

    every = tool_names()
    chosen = list(dict.fromkeys(_CALLED.get(name, name) for name in names)) or every
    for name in chosen:
        if name not in every:
            raise UsageError(f"unknown tool {name!r}", hint=f"one of {', '.join(every)}")
    return [
        own_cache(settings, around, progress) if name == NAME else tool(name) for name in chosen
    ]
