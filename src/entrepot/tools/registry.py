"""Which tools there are: one table, imported one by one when they are asked for."""

from __future__ import annotations

import importlib
from functools import cache

from entrepot.ports.client_setup import ClientSetup
from entrepot.ports.reuse import ReuseSource
from entrepot.ports.tool import Surroundings, Tool

_TOOLS = {
    "conda": "conda.conda_tool",
    "mamba": "conda.mamba_tool",
    "pip": "pip.tool",
    "rattler": "conda.rattler_tool",
    "uv": "uv.tool",
}
"""Each tool whose caches are looked after, and the module that has its ``tool()``."""
_CLIENTS = "conda curl git npm pdm pip pipenv poetry python rattler runners uv wget".split()
"""The modules of ``client_setup`` that have a ``SETUP``."""
_DONORS = ("conda.conda_donor", "pip.reuse")
"""The modules that have ``donors()``."""

TOOL_NAMES = tuple(_TOOLS)
"""The tools whose caches are looked after."""


def tool(name: str) -> Tool:
    """The tool of this name.

    Raises:
        KeyError: an unknown name.
    """
    made: Tool = importlib.import_module(f"entrepot.tools.{_TOOLS[name]}").tool()
    return made


@cache
def client_setups() -> tuple[ClientSetup, ...]:
    """Every client's setup, by name."""
    found = (
        importlib.import_module(f"entrepot.tools.client_setup.{name}").SETUP for name in _CLIENTS
    )
    return tuple(sorted(found, key=lambda setup: setup.name))


def donors(around: Surroundings) -> list[ReuseSource]:
    """The caches of all tools that may hold what a URL brings."""
    modules = (importlib.import_module(f"entrepot.tools.{name}") for name in _DONORS)
    return [donor for module in modules for donor in module.donors(around)]
