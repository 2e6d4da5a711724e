"""What the paths of the default index's files host prove.

Each file lies under the blake2b-256 of its bytes.
"""

from __future__ import annotations

import re

from entrepot.digests import Digest
from entrepot.stored import authority_of

_PATH = re.compile(
    r"https?://[^/]+/packages/([0-9a-f]{2})/([0-9a-f]{2})/([0-9a-f]{60})/([^/?#]+)"
).fullmatch


def path_digest(url: str, files_host: str) -> Digest | None:
    """The digest that a file's URL states, or ``None`` where the rule does not hold.

    A ``.metadata`` sibling lies at its wheel's path, so the path says nothing of its own bytes.

    Args:
        url: canonical.
        files_host: ``HOST`` or ``HOST:PORT`` of the default index's files; empty when it is not
            known.

    Source: experiments on six files of the default index.

    >>> path_digest("https://files.test/packages/ab/cd/" + "0" * 60 + "/x-1.tar.gz", "files.test").value[:6]
    'abcd00'
    """
    match = _PATH(url.partition("#")[0].partition("?")[0])
    if match is None or not files_host or match[4].endswith(".metadata"):
        return None
    authority, known = authority_of(url), files_host.lower()
    if authority != known and authority not in {f"{known}:443", f"{known}:80"}:
        return None
    return Digest("blake2b-256", match[1] + match[2] + match[3])
