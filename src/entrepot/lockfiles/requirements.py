"""pip's requirement files, and conda's explicit lists, which look the same from here.

One URL a line.

Source: pip 26.3, "Requirements File Format"; ``conda list --explicit --md5`` and ``--sha256``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from entrepot.digests import LENGTHS
from entrepot.lockfiles.files import Collector, digest_or_none
from entrepot.lockfiles.pins import Known
from entrepot.names import classify, filename_of, normal_version, normalize


def read_requirements(text: str, source: str, *, only_files: bool = False) -> Known:
    """Hashes and direct URLs of a requirement file or an explicit list; markers are not judged.

    Args:
        text: the file.
        source: its path.
        only_files: pass over URLs that name no distribution (a command line names indexes and
            proxies too).
    """
    found = Collector(source)
    for line in _logical_lines(text):
        option = _OPTION(line)
        if option is None:
            _read_requirement(line, found, only_files=only_files)
        elif option[1] in {"-r", "-c", "--requirement", "--constraint"}:
            found.includes.append(option[2].strip("\"'"))
        elif option[1] in {"-i", "-f", "--index-url", "--extra-index-url", "--find-links"}:
            found.host(option[2].strip("\"'"))
    return found.known()


_OPTION = re.compile(r"(-[rcife]|--[a-z][a-z-]*)[\s=]*(.*)", re.DOTALL).fullmatch
_COMMENT = re.compile(r"(^|\s)#.*$")
_HASH = re.compile(r"""\s--hash[\s=]\s*["']?(\w+)[:=]([0-9a-fA-F]+)["']?""").finditer
_NAMED = re.compile(
    r"([A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)\s*(?:\[[^\]]*\])?\s*(.*)", re.ASCII | re.DOTALL
).fullmatch
_PIN = re.compile(r"\(?\s*===?\s*([^\s,;*()]+)\s*\)?").fullmatch
_FRAGMENT = re.compile(r"(?:^|&)(" + "|".join(LENGTHS) + r")[=:]([0-9a-fA-F]+)").findall


def _logical_lines(text: str) -> Iterator[str]:
    """Lines with continuations joined and comments gone.

    pip joins first and takes comments out then, but a comment line always ends what went before it.
    """
    pending = ""
    for line in [*text.splitlines(), ""]:
        is_comment = line.lstrip().startswith("#")
        if line.endswith("\\") and not is_comment:
            pending += line[:-1]
            continue
        whole = _COMMENT.sub("", pending + ("" if is_comment else line)).strip()
        pending = ""
        if whole:
            yield whole


def _read_requirement(line: str, found: Collector, *, only_files: bool) -> None:
    digests = [d for match in _HASH(line) if (d := digest_or_none(f"{match[1]}:{match[2]}"))]
    body = re.split(r"\s--?[a-z]", line, maxsplit=1)[0].strip()
    named = None if re.match(r"[A-Za-z][\w+.-]*://", body) else _NAMED(body)
    project = normalize(named[1]) if named else None
    rest = named[2] if named else body
    if named and not rest.startswith("@"):
        pin = _PIN(rest.partition(";")[0].strip())
        found.any_of(
            digests,
            project=project,
            version=normal_version(pin[1]) if pin else None,
            binds=pin is not None,
        )
        return
    url, _, fragment = re.split(r"\s+;|\s", rest.removeprefix("@").strip(), maxsplit=1)[
        0
    ].partition("#")
    if not url.startswith(("http://", "https://")):
        return
    stated = [d for pair in _FRAGMENT(fragment) if (d := digest_or_none(":".join(pair)))]
    if not stated and (bare := digest_or_none(fragment)):
        stated = [bare]  # conda: URL#MD5
    is_file = named is not None or bool(stated) or classify(filename_of(url)) is not None
    if only_files and not is_file:
        return
    if stated or len(digests) < 2:
        found.file(url=url, project=project, digests=stated or digests)
    else:
        found.file(url=url, project=project)
        found.any_of(digests, project=project, version=None, url=url, binds=True)
