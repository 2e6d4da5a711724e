"""The tools that are there: every folder of this package, found by looking.

A folder takes part as soon as it has the module: ``child.py`` with a ``GUIDE`` makes it a tool that
can be led. No list is kept here or anywhere else. The modules are imported only when they are asked
for.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Iterator
from functools import cache
from types import ModuleType

import entrepot.tools
from entrepot.ports.client_setup import Guide
from entrepot.ports.reuse import Donor
from entrepot.ports.tool import Surroundings


@cache
def guides() -> tuple[Guide, ...]:
    """Every tool's guide, by name."""
    return tuple(sorted(_found(), key=lambda guide: guide.name))


def _found() -> Iterator[Guide]:
    return (module.GUIDE for module in _modules("child"))


def donors(around: Surroundings) -> list[Donor]:
    """The caches of all tools that may hold what a URL brings."""
    return [donor for module in _modules("donor") for donor in module.donors(around)]


def _modules(name: str) -> Iterator[ModuleType]:
    """The modules of that name in the tools' rooms."""
    for room in pkgutil.iter_modules(entrepot.tools.__path__):
        module = f"{entrepot.tools.__name__}.{room.name}.{name}"
        if room.ispkg and importlib.util.find_spec(module) is not None:
            yield importlib.import_module(module)
