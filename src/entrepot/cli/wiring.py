"""Where adapters are picked: the only module of the command line that names a store, a catalogue or a tool's folder."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from entrepot.errors import UsageError

if TYPE_CHECKING:
    from entrepot.app.own_cache import Opened, OwnCache
    from entrepot.config import Settings
    from entrepot.ports.tool import Progress, Surroundings, Tool
    from entrepot.stores.catalogue import SqliteCatalogue
    from entrepot.stores.directory import DirectoryStore


def open_store(settings: Settings, *, create: bool = True) -> tuple[DirectoryStore, SqliteCatalogue]:
    """The store that the settings name and its catalogue, neither of them read yet.

    Args:
        settings: where it is and its cap.
        create: whether it may be made.

    Raises:
        StoreUnavailable: it cannot be opened.
    """
    from entrepot.stores.catalogue import open_catalogue
    from entrepot.stores.directory import DirectoryStore

    cap = sys.maxsize if settings.limit_total is None else settings.limit_total
    store = DirectoryStore(settings.store, cap=cap, create=create)
    return store, open_catalogue(settings.store)


def own_cache(settings: Settings, around: Surroundings, progress: Progress | None = None) -> OwnCache:
    """The store behind the tool port. A catalogue that is new or was lost is made again at its first use, with progress."""
    from entrepot.app.own_cache import Opened, OwnCache
    from entrepot.config_file import OwnSettings

    def opened() -> Opened:
        store, catalogue = open_store(settings, create=False)
        if catalogue.needs_rebuild:
            catalogue.rebuild(store, progress=(lambda done: progress(done, None, "entries")) if progress else None)
        return Opened(store, catalogue)

    layers = settings.layers("store")
    return OwnCache(settings.store, layers=layers, open_store=opened, settings=OwnSettings(around), now=time.time)


def tool_names() -> list[str]:
    """Every tool there is: the own cache, and each folder of ``entrepot.tools`` with a ``tool.py``."""
    from entrepot.app.own_cache import NAME

    folder = Path(importlib.import_module("entrepot.tools").__file__ or "").parent
    return [NAME, *sorted(found.name for found in os.scandir(folder) if os.path.isfile(os.path.join(found.path, "tool.py")))]  # noqa: PTH113, PTH118


def tools(settings: Settings, around: Surroundings, names: Iterable[str] = (), progress: Progress | None = None) -> Sequence[Tool]:
    """The tools of these names in this order; all of them without a name. Only theirs are imported.

    Raises:
        UsageError: a name that is no tool's.
    """
    from entrepot.app.own_cache import NAME

    every = tool_names()
    chosen = list(dict.fromkeys(names)) or every
    for name in chosen:
        if name not in every:
            raise UsageError(f"{name!r} is no tool entrepot knows", hint=f"one of {', '.join(every)}")
    return [
        own_cache(settings, around, progress) if name == NAME else importlib.import_module(f"entrepot.tools.{name}.tool").tool()
        for name in chosen
    ]
