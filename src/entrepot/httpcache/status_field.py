"""The ``Cache-Status`` field (RFC 9211): its value as a structured field.

No decision is made here.
"""

from __future__ import annotations

FORWARD_REASONS = frozenset("bypass method uri-miss vary-miss miss request stale partial".split())
"""What ``fwd`` may say (RFC 9211 §2.2)."""

_TOKEN = frozenset(
    "!#$%&'*+-.^_`|~:/0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)


def cache_status(
    *,
    cache: str = "entrepot",
    hit: bool,
    fwd: str | None,
    fwd_status: int | None = None,
    stored: bool = False,
    ttl: int | None = None,
    collapsed: bool = False,
    detail: str | None = None,
) -> str:
    """One member of ``Cache-Status``, for this cache.

    Args:
        cache: this cache's name.
        hit: the request was answered without being forwarded.
        fwd: why it was forwarded, out of :data:`FORWARD_REASONS`; left out with ``hit``.
        fwd_status: the status that upstream answered with.
        stored: the answer was stored.
        ttl: seconds of freshness left; negative when stale.
        collapsed: it waited for another request's transfer.
        detail: anything more, for people.

    Source: RFC 9211 §2.

    >>> cache_status(hit=False, fwd="stale", fwd_status=304, ttl=600)
    'entrepot; fwd=stale; fwd-status=304; ttl=600'
    """
    parts = [_item(cache)]
    if hit:
        parts.append("hit")
    elif fwd is not None:
        parts.append(f"fwd={fwd if fwd in FORWARD_REASONS else 'miss'}")
        if fwd_status is not None:
            parts.append(f"fwd-status={fwd_status}")
    if ttl is not None:
        parts.append(f"ttl={ttl}")
    if stored and not hit:
        parts.append("stored")
    if collapsed and not hit:
        parts.append("collapsed")
    if detail is not None:
        parts.append(f"detail={_item(detail)}")
    return "; ".join(parts)


def _item(text: str) -> str:
    """A token where the text can be one, else a string (RFC 8941 §3.3).

    What no string can hold becomes ``?``.
    """
    if text and set(text) <= _TOKEN and (text[0].isalpha() or text[0] == "*"):
        return text
    printable = "".join(char if " " <= char <= "~" else "?" for char in text)
    return '"' + printable.replace("\\", "\\\\").replace('"', '\\"') + '"'
