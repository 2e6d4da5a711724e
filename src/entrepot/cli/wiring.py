"""Where adapters are picked.

The only module of the command line that names a store, a catalogue or a tool's folder.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from entrepot.errors import StoreUnavailable, UsageError

if TYPE_CHECKING:
    from entrepot.caches.own import OwnCache
    from entrepot.config.settings import Settings
    from entrepot.ports.catalogue import Catalogue
    from entrepot.ports.store import Store
    from entrepot.ports.tool import Progress, Surroundings, Tool
    from entrepot.store.catalogue import SqliteCatalogue
    from entrepot.store.directory import DirectoryStore


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

    A command must not fail because its cache cannot be opened. But a ``--store`` that is no place
    for a store is a mistake in the command line, and said at once.

    Raises:
        StoreUnavailable: ``--store`` names what is and will be no store.
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


_CALLED = {"micromamba": "mamba", "pixi": "rattler"}
"""Programs whose caches are those of a tool with another name."""


def tool_names() -> list[str]:
    """Every tool there is.

    The own cache, and each folder of ``entrepot.tools`` with a ``tool.py``.
    """
    from entrepot.caches import NAME

    folder = Path(importlib.import_module("entrepot.tools").__file__ or "").parent
    return [
        NAME,
        *sorted(
            found.name
            for found in os.scandir(folder)
            if os.path.isfile(os.path.join(found.path, "tool.py"))
        ),
    ]


def tools(
    settings: Settings,
    around: Surroundings,
    names: Iterable[str] = (),
    progress: Progress | None = None,
) -> Sequence[Tool]:
    """The tools of these names in this order; all of them without a name. Only theirs are imported.

    Raises:
        UsageError: a name that is no tool's.
    """
    from entrepot.caches import NAME

    every = tool_names()
    chosen = list(dict.fromkeys(_CALLED.get(name, name) for name in names)) or every
    for name in chosen:
        if name not in every:
            raise UsageError(
                f"{name!r} is no tool entrepot knows", hint=f"one of {', '.join(every)}"
            )
    return [
        own_cache(settings, around, progress)
        if name == NAME
        else importlib.import_module(f"entrepot.tools.{name}.tool").tool()
        for name in chosen
    ]
