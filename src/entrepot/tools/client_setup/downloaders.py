"""How git, npm, curl and wget are sent through the proxy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from entrepot.tools._shared.safe_read import is_file
from entrepot.tools.client_setup.command_line import CommandLine, values_after
from entrepot.tools.client_setup.engine import Client, Meaning, Setting, means
from entrepot.tools.client_setup.found_urls import FoundUrls
from entrepot.tools.client_setup.readers import curlrc, sections

# npm, git: their hosts are never opened, only their way to the proxy is kept free

_NPM = Client(
    "npm",
    ("npm",),
    files="@above/.npmrc $NPM_CONFIG_USERCONFIG|$npm_config_userconfig|~/.npmrc "
    "$NPM_CONFIG_GLOBALCONFIG $npm_config_globalconfig /etc/npmrc /usr/etc/npmrc "
    "/usr/local/etc/npmrc",
    read=sections,
    keys=means(ca="cafile", proxy="proxy https-proxy http-proxy"),
    # A cafile in any npmrc makes NODE_EXTRA_CA_CERTS useless; these variables beat every npmrc.
    ca_variable="npm_config_cafile",
    proxy_variables=("npm_config_proxy", "npm_config_https_proxy"),
)


def _git(found: FoundUrls, settings: Sequence[Setting]) -> None:
    """Override each setting of a proxy or of CA files by one of the same name.

    Settings given by ``GIT_CONFIG_COUNT`` override the files, and those override the
    environment. A setting for one URL (``http.URL.proxy``) beats the general one.
    """
    line, proxy = found.line, found.proxy
    override: dict[str, str] = {}
    for each in settings:
        if each.keys[0] not in ("http", "remote"):
            continue
        if each.key == "sslcert":
            found.close(each.keys[1:-1])
            continue
        if each.key == "sslcainfo":
            found.bundle(each.value)
        if proxy is not None:
            name = ".".join(each.keys)
            override[name] = proxy.proxy if each.key == "proxy" else proxy.bundle
    if override:
        try:
            start = max(0, int(line.environ.get("GIT_CONFIG_COUNT") or 0))
        except ValueError:
            start = 0
        found.environment["GIT_CONFIG_COUNT"] = str(start + len(override))
        for number, (name, value) in enumerate(override.items(), start):
            found.environment[f"GIT_CONFIG_KEY_{number}"] = name
            found.environment[f"GIT_CONFIG_VALUE_{number}"] = value
    if proxy is not None and any(word.lower().startswith("http.proxy=") for word in line.words):
        found.warn("git is given -c http.proxy: what it fetches does not go through the proxy")


_GIT = Client(
    "git",
    ("git",),
    files="$GIT_CONFIG_SYSTEM|/etc/gitconfig $GIT_CONFIG_GLOBAL|@config/git/config "
    "$GIT_CONFIG_GLOBAL|~/.gitconfig @above/.git/config",
    read=sections,
    keys=means(own="proxy sslcainfo sslcert"),
    own=_git,
)


# curl, wget

_CURL_PROXIES = (
    "-x --proxy --preproxy --socks4 --socks4a --socks5 --socks5-hostname --proxy1.0".split()
)
_CURL_NOT_FETCHED = "-e --referer --doh-url -d --data -H --header -o --output -u --user".split()


def _curlrc_files(line: CommandLine) -> Iterator[Path]:
    """The configuration files of ``-K``, and the first that exists of those that curl looks for."""
    named = values_after(line.after("curl"), "-K", "--config")
    yield from (line.path(value) for value in named if value != "-")
    if line.command.argv[1:2] not in (("-q",), ("--disable",)):
        places = line.places(
            "$CURL_HOME/.curlrc $XDG_CONFIG_HOME/curlrc ~/.curlrc ~/.config/curlrc"
        )
        yield from list(filter(is_file, places))[:1]


def _is_curl_proxy(word: str) -> bool:
    """Whether a word is a flag whose value, the next word, is a proxy; ``-sSx`` is one too."""
    return word in _CURL_PROXIES or (word.endswith("x") and word[:1] == "-" and word[1:].isalpha())


def _curl(found: FoundUrls, settings: Sequence[Setting]) -> None:
    """Drop proxy flags; ``--cacert`` names the merged bundle, which beats one in ``.curlrc``.

    A ``.curlrc`` cannot be changed, and ``CURL_HOME`` helps only with another file.
    """
    line, proxy = found.line, found.proxy
    proxies = [word for word in line.after("curl") if _is_curl_proxy(word)]
    found.add_words(but_after=(*_CURL_PROXIES, *_CURL_NOT_FETCHED, *proxies))
    if proxy is None:
        return
    has_ca = any(each.meaning is Meaning.CA for each in settings)
    if line.starts("curl"):
        argv = _without_curl_flags(line.command.argv)
        if has_ca:
            argv = (*argv, "--cacert", proxy.bundle)
        found.argv = argv if argv != line.command.argv else None
    elif proxies:
        found.warn(
            "curl is given a proxy inside another command: what it fetches goes past the cache"
        )
    elif has_ca:
        found.warn(
            "curl is given a CA file of its own inside another command: its downloads from indexes "
            "may fail"
        )


def _without_curl_flags(argv: tuple[str, ...]) -> tuple[str, ...]:
    kept: list[str] = []
    words = iter(argv)
    for word in words:
        if _is_curl_proxy(word) or word in ("--cacert", "--noproxy"):
            next(words, None)
            if not word.startswith("--") and len(word) > len("-x"):
                kept.append(word[:-1])
        else:
            kept.append(word)
    return tuple(kept)


_CURL = Client(
    "curl",
    ("curl",),
    only_if_named=True,
    files=_curlrc_files,
    read=curlrc,
    keys=means(
        ca="cacert",
        certificate="cert E",
        proxy="x proxy preproxy socks5 socks5-hostname noproxy",
        index="url",
    ),
    options=means(ca="--cacert", certificate="-E --cert"),
    own=_curl,
)


def _wget(found: FoundUrls, settings: Sequence[Setting]) -> None:
    """Name the bundle by a flag: wget reads the proxy variables, but none for CA files."""
    line, proxy = found.line, found.proxy
    if line.starts("wget"):
        found.add_words(but_after=("-e", "--referer", "--header", "-O"))
        if proxy and not any(each.meaning is Meaning.CERTIFICATE for each in settings):
            program, *words = line.command.argv
            words = [word for word in words if not word.startswith("--ca-certificate=")]
            found.argv = (program, f"--ca-certificate={proxy.bundle}", *words)
    elif proxy is not None:
        found.warn(
            "wget below another command reads no CA variable: its https downloads from "
            "indexes fail; use curl"
        )


_WGET = Client(
    "wget",
    ("wget",),
    only_if_named=True,
    options=means(ca="--ca-certificate", certificate="--certificate"),
    own=_wget,
)

DOWNLOADERS = (_NPM, _GIT, _CURL, _WGET)
