"""The default index and the host of its files, from pip's own constants and nowhere else.

pip's module is private: if it has moved or changed, the default index is simply not known
beforehand, and the user is told how to name it. Only that one module is run: importing it by name
would import and set up pip's logging first.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

MODULE = "_internal/models/index.py"


@cache
def default_index(module: str = MODULE) -> tuple[str, ...]:
    """URLs of the default index and of its files' host; empty when pip no longer says.

    Source: pip 20.3 to 26.3, ``models/index.py``: ``PyPI.simple_url`` and
    ``PyPI.file_storage_domain``.
    """
    try:
        pip = importlib.util.find_spec("pip")
        if pip is None or pip.origin is None:
            return ()
        spec = importlib.util.spec_from_file_location(
            "entrepot_pip_index", Path(pip.origin).parent / module
        )
        if spec is None or spec.loader is None:
            return ()
        constants = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(constants)
        urls = (constants.PyPI.simple_url, f"https://{constants.PyPI.file_storage_domain}/")
    except Exception:  # noqa: BLE001  # somebody else's private module may do anything
        return ()
    return urls if all(isinstance(url, str) and url.startswith("https://") for url in urls) else ()


def files_host() -> str:
    """``HOST`` or ``HOST:PORT`` of the default index's files; empty when it is not known."""
    urls = default_index()
    return urls[1].partition("://")[2].strip("/") if len(urls) > 1 else ""


UNKNOWN = (
    "this pip no longer says which index is the default one: name it and its files' host "
    "with --host"
)
"""Said when :func:`default_index` is empty."""
