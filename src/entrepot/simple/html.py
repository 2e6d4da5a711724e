"""A project's page in JSON written again as HTML, for clients from before PEP 691. Pure.

Only what installers read is carried over: nothing of a page that has more is lost to those who
could have read it.
"""

from __future__ import annotations

import html
import json
from typing import Any

from entrepot.errors import InvalidPage

CONTENT_TYPE = "text/html; charset=utf-8"
_PREFERRED = ("sha256", "sha512", "sha384", "sha224", "sha1", "md5")
"""A fragment takes one digest; pip 20.3 understands all of these."""


def html_page(body: bytes) -> bytes:
    """The page as HTML; relative links stay relative to the same URL.

    Args:
        body: a project's page in JSON, content codings removed.

    Raises:
        InvalidPage: it is none.

    Source: PEP 503, 592 (yanked), 658 and 714 (metadata), 691 (the JSON form).

    >>> html_page(b'{"name": "x", "files": [{"url": "x-1.zip", "hashes": {}}]}').splitlines()[-1]
    b'<a href="x-1.zip">x-1.zip</a><br>'
    """
    try:
        page = json.loads(body)
        files = [
            file
            for file in page["files"]
            if isinstance(file, dict) and isinstance(file.get("url"), str)
        ]
        name = str(page["name"])
    except (ValueError, LookupError, TypeError, RecursionError) as exc:
        raise InvalidPage(
            f"not a project's page: {exc}", text=body[:80].decode("utf-8", "replace")
        ) from exc
    title = f"Links for {html.escape(name)}"
    return f"<!DOCTYPE html>\n<title>{title}</title>\n<h1>{title}</h1>\n{''.join(map(_anchor, files))}".encode(
        "utf-8", "replace"
    )


def _anchor(file: dict[str, Any]) -> str:
    url = file["url"].partition("#")[0]
    digest = _digest(file.get("hashes"))
    attributes = {"href": f"{url}#{digest}" if digest else url}
    if isinstance(file.get("requires-python"), str):
        attributes["data-requires-python"] = file["requires-python"]
    yanked = file.get("yanked")
    if yanked not in (None, False):
        attributes["data-yanked"] = yanked if isinstance(yanked, str) else ""
    metadata = file.get("core-metadata", file.get("dist-info-metadata"))
    if metadata:
        attributes["data-dist-info-metadata"] = attributes["data-core-metadata"] = (
            _digest(metadata) or "true"
        )
    shown = "".join(f' {name}="{html.escape(value)}"' for name, value in attributes.items())
    return f"<a{shown}>{html.escape(str(file.get('filename') or url.rpartition('/')[2]))}</a><br>\n"


def _digest(hashes: object) -> str:
    """``ALGORITHM=VALUE`` of the best digest; empty without one."""
    if not isinstance(hashes, dict):
        return ""
    return next(
        (f"{name}={value}" for name in _PREFERRED if isinstance(value := hashes.get(name), str)), ""
    )
