"""Where adapters are picked.

The only module of the command line that names a store, a catalogue or a tool's folder.
"""

from __future__ import annotations

import errno
import importlib
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entrepot.errors import ConfigError, StoreUnavailable, UsageError

if TYPE_CHECKING:
    from entrepot.caches.own import OwnCache
    from entrepot.config.settings import Settings
    from entrepot.ports.catalogue import Catalogue
    from entrepot.ports.store import Store
    from entrepot.ports.tool import Progress, Surroundings, Tool
    from entrepot.server.proxy import Dial, Streams
    from entrepot.store.catalogue import SqliteCatalogue
    from entrepot.store.directory import DirectoryStore
    from entrepot.tools._shared.defaults import files_host
    from entrepot.tools._shared.quota import Quota
    from entrepot.tools.client_setup.clients import client_setups
    from entrepot.tools.client_setup.proxy_environment import common_environment, outer_run
    from entrepot.tools.registry import donors
    from entrepot.upstream.client import HttpUpstream, UpstreamSettings
    from entrepot.upstream.trust import merged_bundle


__all__ = [
    "HttpUpstream",
    "Quota",
    "client_setups",
    "common_environment",
    "donors",
    "files_host",
    "merged_bundle",
    "outer_run",
]

_LATE = {
    "common_environment": "tools.client_setup.proxy_environment",
    "outer_run": "tools.client_setup.proxy_environment",
    "files_host": "tools._shared.defaults",
    "donors": "tools.registry",
    "client_setups": "tools.client_setup.clients",
    "HttpUpstream": "upstream.client",
    "merged_bundle": "upstream.trust",
}
"""What a run takes from the tools and from the HTTP client, and the modules where it stands."""


def __getattr__(name: str) -> Any:
    """A name of :data:`_LATE`: its module is imported when it is first asked for."""
    if name not in _LATE:
        raise AttributeError(name)
    return getattr(importlib.import_module(f"entrepot.{_LATE[name]}"), name)


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
    """Removes litter once a day; asks whether it shall stop. For a thread."""
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
        if settings.said["store"][0].kind == "option" and not _is_circumstance(exc.__cause__):
            raise
        lost = SqliteCatalogue(None)
        return RunStore(
            NullStore(), lost, lambda: None, lambda _is_over: None, lost.close, trouble=exc
        )
    # A connection of its own: the loop's shall never wait for what a thread has begun.
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


def _is_circumstance(cause: BaseException | None) -> bool:
    """Whether the system refused for a reason that has nothing to do with which place was named."""
    return isinstance(cause, OSError) and cause.errno in {
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


def upstream_settings(
    settings: Settings, environ: Mapping[str, str], bundles: Iterable[str]
) -> UpstreamSettings:
    """How upstream is reached: by the user's own proxy and CA settings."""
    from entrepot.upstream.client import UpstreamSettings
    from entrepot.upstream.proxies import ProxyRules
    from entrepot.upstream.trust import merged_bundle

    return UpstreamSettings(
        silence_timeout_s=settings.timeout_s,
        ca_pem=merged_bundle(environ, map(Path, bundles), directories=True).pem,
        proxies=ProxyRules.from_environ(environ),
        resolve=read_resolve(environ),
    )


def dialler(reach: UpstreamSettings) -> Dial:
    """How tunnels and upgraded connections are dialled: as upstream is reached."""
    from entrepot.upstream.client import open_tunnel

    async def dial(host: str, port: int, tls: bool) -> Streams:
        return await open_tunnel(host, port, reach, tls=tls)

    return dial


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
