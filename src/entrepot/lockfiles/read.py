"""Which kind of lock file a text is, and what it says.

Nothing here raises: a file that cannot be read says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from entrepot.links import Link
from entrepot.lockfiles import conda, requirements, tables
from entrepot.lockfiles.pins import Known


def read_lock(text: str, *, name: str) -> Known:
    """What a lock file or requirement file says.

    Understood are uv.lock, pdm.lock, poetry.lock, pylock.toml (PEP 751), Pipfile.lock,
    conda-lock.yml, pixi.lock, conda's explicit lists and pip's requirement files.

    Args:
        text: the file's content.
        name: its path; the last part tells its kind, the whole is kept as the links' source.
    """
    last = name.replace("\\", "/").rpartition("/")[2].lower()
    if last == "pipfile.lock":
        return tables.read_pipfile_lock(text, name)
    if last.endswith((".yml", ".yaml")) or last == "pixi.lock":
        return conda.read_yaml_lock(text, name)
    if last.endswith((".toml", ".lock")):
        return tables.read_toml_lock(text, name)
    return requirements.read_requirements(text, name)


def links_from(text: str, *, name: str) -> list[Link]:
    """The files at a known URL that a lock file names; see :func:`read_lock` for the rest."""
    return list(read_lock(text, name=name).links)


def read_arguments(arguments: Sequence[str]) -> Known:
    """What a command line says.

    ``NAME @ URL#sha256=...``, URLs of distributions, ``NAME==V --hash=...``.

    Args:
        arguments: without the program; options are passed over.
    """
    lines: list[str] = []
    for i, argument in enumerate(arguments):
        if argument.startswith("--hash=") and lines:
            lines[-1] += f" {argument}"
        elif argument.startswith("sha") and i and arguments[i - 1] == "--hash" and lines:
            lines[-1] += f" --hash={argument}"
        elif not argument.startswith("-") and "\n" not in argument:
            lines.append(argument)
    return requirements.read_requirements("\n".join(lines), "the command line", only_files=True)


def hosts_in_lock(text: str) -> frozenset[str]:
    """``HOST:PORT`` of every http and https URL in a text, except those of version control.

    >>> sorted(hosts_in_lock('url = "https://files.test/x.whl", git = "https://code.test/x"'))
    ['files.test:443']
    """
    found = set()
    for scheme, host, port in _URL(text):
        number = port.lstrip("0") or ("443" if scheme.lower() == "https" else "80")
        found.add(f"{host.lower()}:{number}")
    return frozenset(found)


_URL = re.compile(
    r"""
    (?<![\w+])(?<!git\ =\ ")(?<!git=")(?<!git:\ )
    (https?)://(?:[^\s/?\#@"'<>]*@)?(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(\d{1,5}))?
    """,
    re.IGNORECASE | re.VERBOSE,
).findall
