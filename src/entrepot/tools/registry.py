"""Which tools there are: one table, imported one by one when they are asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from entrepot.ports.reuse import ReuseSource
    from entrepot.ports.tool import Surroundings, Tool

_TOOLS = {
    "conda": "conda.tool:conda",
    "mamba": "conda.tool:mamba",
    "pip": "pip.tool:tool",
    "rattler": "conda.tool:rattler",
    "uv": "uv.tool:tool",
}
"""Each tool whose caches are looked after, and where it is made: module and factory."""
_DONORS = ("conda.reuse", "pip.reuse")
"""The modules that have ``donors()``."""

TOOL_NAMES = tuple(_TOOLS)
"""The tools whose caches are looked after."""


def tool(name: str) -> Tool:
    """The tool of this name.

    Raises:
        KeyError: an unknown name.
    """
    module, _, factory = _TOOLS[name].partition(":")
    made: Tool = getattr(importlib.import_module(f"entrepot.tools.{module}"), factory)()
    return made


def donors(around: Surroundings) -> list[ReuseSource]:
    """The caches of all tools that may hold what a URL brings."""
    modules = (importlib.import_module(f"entrepot.tools.{name}") for name in _DONORS)
    return [donor for module in modules for donor in module.donors(around)]
