"""The variables that send every child through the proxy, whatever tool it is or calls.

What each client reads was found by experiment: pip 20.3 to 26.3, uv 0.13, poetry, pdm, requests,
httpx, urllib, curl, git, npm, conda, rattler. Two rules matter most: both spellings of a variable
are set, because clients disagree on which one wins; and a user's own CA file is never left in
place, because it would hide the run's authority, but merged (``merged_bundle``).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping

from entrepot.ports.client_setup import ProxyAddress

MARKER = "ENTREPOT_RUN"
"""Set for the child to ``HOST:PORT`` of the proxy: a ``run`` inside finds the outer one by it."""
PROXY_VARIABLES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")
BUNDLE_VARIABLES = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
)
OPTIONAL_BUNDLE_VARIABLES = (
    "NPM_CONFIG_CAFILE",
    "npm_config_cafile",
    "CONDA_SSL_VERIFY",
    "MAMBA_SSL_VERIFY",
)
"""Replaced when the user has set them; unset they are better left alone."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")
RETRY_VARIABLES = (
    "UV_HTTP_RETRIES",
    "PIP_RETRIES",
    "CONDA_REMOTE_MAX_RETRIES",
    "npm_config_fetch_retries",
)


def common_environment(
    environ: Mapping[str, str],
    proxy: ProxyAddress,
    *,
    loopback_open: bool,
    hosts: Collection[str] = (),
) -> dict[str, str | None]:
    """Variables to set for the child; ``None`` removes one.

    ``REQUEST_METHOD`` and ``SSL_CERT_DIR`` stay as they are. Proxy variables carry the proxy's user
    and token: they are visible to the child's user alone, as any process environment is.

    Args:
        environ: the user's variables, before any change.
        proxy: where the child is pointed at.
        loopback_open: whether an index stands on loopback, so that loopback must come to the proxy
            too.
        hosts: hosts of indexes: entries of the user's ``NO_PROXY`` by which the child would go past
            the proxy to one of them are left out (:func:`no_proxy`).
    """
    changes: dict[str, str | None] = dict.fromkeys(PROXY_VARIABLES, proxy.proxy)
    changes.update(dict.fromkeys(("ALL_PROXY", "all_proxy")))
    # pip puts a proxy= of its configuration above HTTPS_PROXY, and PIP_PROXY above that (22.3 and
    # later).
    changes["PIP_PROXY"] = proxy.proxy
    direct = no_proxy(environ, loopback_open=loopback_open, hosts=hosts)
    # One of the two set and the other empty would hide the list from uv, from git and from wget.
    changes.update(dict.fromkeys(("NO_PROXY", "no_proxy"), ",".join(direct) or None))
    changes.update(dict.fromkeys(BUNDLE_VARIABLES, proxy.bundle))
    changes.update({name: proxy.bundle for name in OPTIONAL_BUNDLE_VARIABLES if environ.get(name)})
    if proxy.offline:
        changes.update(dict.fromkeys(RETRY_VARIABLES, "0"))
    changes[MARKER] = _address(proxy.proxy)
    return changes


def no_proxy(
    environ: Mapping[str, str], *, loopback_open: bool, hosts: Collection[str] = ()
) -> list[str]:
    """Entries for ``NO_PROXY``.

    The user's own addresses in both spellings, then loopback unless it must come to the proxy.

    Names are left out, all of them: one may turn out to serve an index's files, which only its
    pages tell, and then a client would go straight there. The proxy obeys the user's list on its
    own way out, so that no connection takes another way.
    """
    lists = (environ.get(name, "") for name in ("NO_PROXY", "no_proxy"))
    own = [part.strip() for text in lists for part in text.split(",")]
    wanted = [host.lower() for host in hosts]
    wanted += LOOPBACK if loopback_open else ()
    kept = [
        entry
        for entry in own
        if _is_address(entry) and not any(_covers(entry, host) for host in wanted)
    ]
    kept += () if loopback_open else LOOPBACK
    return list(dict.fromkeys(kept))


def _is_address(entry: str) -> bool:
    """Whether an entry names addresses, not hosts by their names."""
    text = entry.partition("]")[0].lstrip("[") if entry.startswith("[") else entry
    text = text.rpartition(":")[0] if text.count(":") == 1 else text
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return entry in LOOPBACK or bool(re.fullmatch(r"\d+(?:\.\d+)*\.?", entry))
    return True


def _covers(entry: str, host: str) -> bool:
    """Whether a client with this ``NO_PROXY`` entry might go straight to the host.

    In doubt it might.
    """
    entry = entry.lower().strip("[]")
    if entry.startswith("127.") and host == "127.0.0.1":
        return True
    if "/" in entry:  # a network: pip, requests, uv and curl read them
        try:
            network = ipaddress.ip_network(entry, strict=False)
            return ipaddress.ip_address(host.strip("[]")) in network
        except ValueError:
            return False
    name = entry.rpartition(":")[0] if entry.count(":") == 1 else entry
    name = name.removeprefix("*").removeprefix(".")
    return bool(name) and (host == name or host.endswith("." + name))


def outer_run(environ: Mapping[str, str]) -> str | None:
    """``HOST:PORT`` of the run that this process is inside of, else ``None``.

    A marker without the proxy (the variables were emptied) or with another proxy is no outer run.
    """
    marker = environ.get(MARKER)
    proxies = [environ.get(name, "") for name in ("HTTPS_PROXY", "https_proxy")]
    return marker if marker and all(_address(proxy) == marker for proxy in proxies) else None


def _address(proxy: str) -> str:
    return proxy.partition("://")[2].rpartition("@")[2].rstrip("/")
