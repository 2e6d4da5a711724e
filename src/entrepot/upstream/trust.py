"""One PEM bundle of every authority that the user's tools trust: text in, text out.

Needs neither OpenSSL nor ``cryptography``: PEM blocks are cut out textually, checked to be DER and
compared by their bytes. No key is ever read: blocks that are not certificates are left out.
"""

from __future__ import annotations

import binascii
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT_VARIABLES = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "PIP_CERT",
    "CONDA_SSL_VERIFY",
)
"""Variables whose file replaces the roots of the clients that read them."""
ADDING_VARIABLES = (
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "NPM_CONFIG_CAFILE",
    "npm_config_cafile",
)
"""Variables of clients that package tools do not share: their file is added, it does not stand for
all roots."""
SWITCHES = frozenset(
    ("", "0", "1", "true", "false", "yes", "no", "on", "off", "truststore", "<truststore>")
)
"""Values of ``CONDA_SSL_VERIFY`` that name no file."""

_USUAL_PLACES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs",
)
_BLOCK = re.compile(
    rb"-----BEGIN (?:X509 )?CERTIFICATE-----(.*?)-----END (?:X509 )?CERTIFICATE-----", re.DOTALL
)


class Bundle(NamedTuple):
    """A merged bundle and what was wrong with its sources."""

    pem: str
    """Certificates, each once, in the order of their sources; ends with a newline, or empty."""
    warnings: tuple[str, ...]
    """A sentence for each named file that could not be used."""


def merged_bundle(
    environ: Mapping[str, str], extra: Iterable[Path] = (), *, directories: bool = False
) -> Bundle:
    """What a tool trusted before, and ``extra`` last, as one PEM text.

    The files named by :data:`ROOT_VARIABLES` and :data:`ADDING_VARIABLES`. If none of the former
    names a usable file: the system's roots too (else certifi's, from pip), because a file for git
    or node alone says nothing of what pip trusts.

    Args:
        environ: where the variables are looked up; nothing is read from our own environment.
        extra: PEM files to add at the end; missing ones are warned about like the others.
        directories: also add what lies in ``SSL_CERT_DIR``. For our own upstream side; a child
            still reads that variable.

    Source: spec of the clients' variables, found by experiment with pip 20.3 to 26.3, uv 0.13,
    requests, curl, git, npm, conda.
    """
    warnings: list[str] = []
    seen: dict[bytes, None] = {}

    def add(paths: Iterable[tuple[str, Path]]) -> int:
        before = len(seen)
        usable = 0
        for source, path in paths:
            found = _certificates(path, source, warnings)
            usable += bool(found)
            seen.update(dict.fromkeys(found))
        return max(len(seen) - before, usable)

    if not add(_named(environ, ROOT_VARIABLES)):
        add(("the system's roots", path) for path in system_roots())
        if not seen:
            add([("pip's own roots", path) for path in _certifi()])
    add(_named(environ, ADDING_VARIABLES))
    if directories and environ.get("SSL_CERT_DIR"):
        add(
            ("SSL_CERT_DIR", Path(part))
            for part in environ["SSL_CERT_DIR"].split(os.pathsep)
            if part
        )
    add(("an extra authority", path) for path in extra)
    return Bundle("".join(_pem(der) for der in seen), tuple(warnings))


def system_roots() -> list[Path]:
    """OpenSSL's compiled-in file if it is there, else its directory.

    None on systems that keep roots elsewhere.
    """
    import ssl  # noqa: PLC0415 -- where nothing else needs TLS its 17 ms are not spent

    paths = ssl.get_default_verify_paths()
    for name in (paths.openssl_cafile, paths.openssl_capath):
        if name and Path(name).exists():
            return [Path(name)]
    # interpreters that bring their own OpenSSL (uv's, conda's) may have been compiled with a path
    # that is not here
    return [path for path in map(Path, _USUAL_PLACES) if path.exists()][:1]


def _certifi() -> list[Path]:
    """The bundle inside pip: pip is a dependency, its vendored certifi is not promised."""
    try:
        from pip._vendor import certifi  # noqa: PLC0415 -- only where the system has no roots
    except ImportError:
        return []
    return [Path(certifi.where())]


def _named(environ: Mapping[str, str], names: Iterable[str]) -> Iterator[tuple[str, Path]]:
    for name in names:
        value = environ.get(name, "").strip()
        if value and not (name == "CONDA_SSL_VERIFY" and value.lower() in SWITCHES):
            yield name, Path(os.path.expanduser(value))


def _certificates(path: Path, source: str, warnings: list[str]) -> list[bytes]:
    """The certificates of a file, or of all files of a directory, as DER."""
    try:
        if path.is_dir():
            files = sorted(p for p in path.iterdir() if p.is_file())
            found = [der for file in files for der in _read(file)]
        else:
            found = _read(path)
    except OSError as exc:
        warnings.append(f"{source} names {path}, which cannot be read: {exc.strerror or exc}")
        return []
    if not found:
        warnings.append(f"{source} names {path}, which holds no certificate")
    return found


def _read(path: Path) -> list[bytes]:
    raw = path.read_bytes()
    if raw[:1] == b"\x30" and b"-----BEGIN" not in raw:
        return [raw]  # a single certificate in DER, as SSL_CERT_DIR may hold
    found = []
    for match in _BLOCK.finditer(raw):
        try:
            der = binascii.a2b_base64(match[1])
        except binascii.Error:
            continue  # one damaged block must not make clients refuse the whole bundle
        if der[:1] == b"\x30":
            found.append(der)
    return found


def _pem(der: bytes) -> str:
    text = binascii.b2a_base64(der, newline=False).decode()
    lines = "\n".join(text[i : i + 64] for i in range(0, len(text), 64))
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"
