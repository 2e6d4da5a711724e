"""Lines of a YAML file with the keys they stand under: enough to find URLs, without a YAML parser.

A parser costs more time at the start of a command than all client setups, and would refuse files
that conda itself takes. Flow sequences are read as text; anchors, tags and block scalars are not
understood.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_LINE = re.compile(
    r"""^(?P<indent>[ \t]*(?:-[ \t]+)*)"""
    r"""(?:(?P<key>"[^"]*"|'[^']*'|[^\s"'#:\[{][^:#]*?)[ \t]*:(?=\s|$))?(?P<value>.*)$"""
)
_COMMENT = re.compile(r"(?:^|\s)#.*$")


def lines(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    r"""``(keys, value)`` of every line that has either, keys from the outermost in.

    List markers and quotes removed.

    >>> list(lines("channels:\n  - https://a.test/x  # ours\nssl_verify: false"))
    [(('channels',), ''), (('channels',), 'https://a.test/x'), (('ssl_verify',), 'false')]
    """
    open_keys: list[tuple[int, str]] = []
    for line in text.splitlines():
        match = _LINE.match(_COMMENT.sub("", line))
        if match is None or not match[0].strip() or match[0].startswith(("---", "...", "%")):
            continue
        depth, value = len(match["indent"].expandtabs()), match["value"].strip().strip("\"'")
        is_item = "-" in match["indent"]
        key = match["key"].strip("\"'") if match["key"] else None
        outer = depth - len(match["indent"].lstrip()) if is_item else depth
        # A list may stand at its key's own depth; a key closes all keys at its depth.
        open_keys = [
            (at, name) for at, name in open_keys if (at <= outer if is_item else at < depth)
        ]
        if key is not None:
            open_keys.append((depth, key))
        yield tuple(name for _, name in open_keys), value
