"""Which archives an environment file means: the commands that solve it, and what they answer.

Nothing is installed by them.

The user's own tool solves: mamba, micromamba and conda say as JSON what they would install
(``create --dry-run``), pixi writes a lock. Without any of them py-rattler does, where it is
installed. Their caches are put aside, so that they ask for every index and the store gets to see
it.

Source: conda 26.7 (``actions`` of ``--json``: FETCH are whole records, LINK may lack the URL) and
py-rattler 0.28, both run; mamba 2.8 (both are whole) and pixi 0.60 (``init --import`` and
``lock``), by their sources alone.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrepot.errors import UsageError
from entrepot.links import Link
from entrepot.lockfiles.pins import digest_or_none
from entrepot.names import classify, filename_of
from entrepot.ports.tool import Surroundings
from entrepot.redaction import redacted_words
from entrepot.tools.conda.warming import Environment
from entrepot.urls import canonical_url

CLASSIC = ("mamba", "micromamba", "conda")
"""The quickest first; all take the same words."""


@dataclass(frozen=True, slots=True)
class Solver:
    """A program that can solve."""

    name: str
    """``mamba``, ``micromamba``, ``conda``, ``pixi`` or ``py-rattler``."""
    program: str

    def commands(self, wanted: Environment, platform: str, folder: Path) -> list[list[str]]:
        """What to run, one after another.

        All work happens in ``folder``, which is there and empty.
        """
        program, project = self.program, folder / "project"
        if self.name == "pixi":
            start = [program, "init", "--import", str(wanted.path), "--platform", platform]
            lock = [program, "lock", "--manifest-path", str(project / "pixi.toml")]
            return [[*start, str(project)], lock]
        named = [channel for channel in wanted.channels if channel != "nodefaults"]
        channels = [word for channel in named for word in ("-c", channel)]
        if self.name == "py-rattler":
            words = [program, "-m", "entrepot.tools.conda.rattler_solving", "--platform", platform]
            return [[*words, "--cache", str(folder / "cache"), *channels, "--", *wanted.specs]]
        words = [program, "create", "--yes", "--json", "--dry-run", "--prefix"]
        alone = ["--override-channels"] if "nodefaults" in wanted.channels else []
        return [[*words, str(folder / "prefix"), *alone, *channels, *wanted.specs]]

    def environment(self, platform: str, folder: Path) -> dict[str, str]:
        """Variables on top of those that lead it through the proxy."""
        cache = str(folder / "pkgs")
        return {
            "CONDA_PKGS_DIRS": cache,
            "CONDA_SUBDIR": platform,
            "CONDA_NUMBER_CHANNEL_NOTICES": "0",
            "PIXI_CACHE_DIR": cache,
            "RATTLER_CACHE_DIR": cache,
        }

    def links(
        self, answer: str, folder: Path, record_of: Callable[[str], Mapping[str, Any]]
    ) -> list[Link]:
        """The archives that it has chosen.

        Args:
            answer: what it wrote to its standard output.
            folder: where it worked.
            record_of: the record of a package by ``NAME-VERSION-BUILD``, out of any known cache;
                empty when there is none.

        Raises:
            UsageError: it did not say.
        """
        if self.name == "pixi":
            from entrepot.lockfiles import read_locked  # noqa: PLC0415 - one case of five

            lock = (folder / "project/pixi.lock").read_text("utf-8")
            return [each.link for each in read_locked(lock, "pixi.lock")]
        try:
            told = json.loads(answer[answer.index("{") :])
            return list(_links(told, record_of))
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise UsageError(
                f"{self.name} did not say which archives it would install: {exc}"
            ) from exc


def solver(around: Surroundings, *, has_rattler: bool) -> Solver:
    """Who solves.

    Args:
        around: PATH is looked at.
        has_rattler: whether py-rattler is installed beside entrepot.

    Raises:
        UsageError: there is none.
    """
    for name in (*CLASSIC, "pixi"):
        for folder in around.environ.get("PATH", "").split(os.pathsep):
            program = Path(folder) / (f"{name}.exe" if around.platform == "win32" else name)
            if folder and os.access(program, os.X_OK) and program.is_file():
                return Solver(name, str(program))
    if has_rattler:
        return Solver("py-rattler", sys.executable)
    raise UsageError(
        "environment.yml needs a solver: no conda, mamba, micromamba or pixi on PATH, "
        "and py-rattler is not installed",
        hint="pip install 'entrepot[conda]', or fetch what a lock file names: "
        "entrepot warm --lock conda-lock.yml",
    )


def reason(name: str, answer: str, log: str) -> str:
    """The sentence that says why it could not be solved.

    Of its JSON, else the last lines that it wrote; no credential in it.
    """
    try:
        told = json.loads(answer[answer.index("{") :])
    except ValueError:
        told = {}
    said = next(
        (str(told[key]) for key in ("message", "error", "solver_problems") if told.get(key)), ""
    )
    lines = [line.strip() for line in (said or log).splitlines() if line.strip()]
    (text,) = redacted_words([" ".join(lines[-3:])[:500] if lines else "it said nothing"])
    return f"{name}: {text}"


def _links(
    told: Mapping[str, Any], record_of: Callable[[str], Mapping[str, Any]]
) -> Iterator[Link]:
    actions = told["actions"]
    fetched: dict[str, Mapping[str, Any]] = {}
    linked: list[str] = []
    for action in actions if isinstance(actions, list) else [actions]:
        fetched.update((_stem(record), record) for record in action.get("FETCH") or ())
        for record in action.get("LINK") or ():
            linked.append(_stem(record))
            if record.get("url"):
                fetched.setdefault(linked[-1], record)
    for stem in dict.fromkeys([*linked, *fetched]):
        record = fetched.get(stem) or record_of(stem)
        if not str(record.get("url", "")).startswith(("http://", "https://")):
            raise UsageError(f"no address is known for {stem}")
        url, size = canonical_url(str(record["url"])), record.get("size")
        filename = filename_of(url)
        name = classify(filename)
        digests = (digest_or_none(record.get(key)) for key in ("sha256", "md5"))
        yield Link(
            url,
            tuple(digest for digest in digests if digest),
            size if isinstance(size, int) and size > 0 else None,
            name.project if name else None,
            name.version if name else None,
            filename or None,
            "archive",
            source="solved",
        )


def _stem(record: Mapping[str, Any]) -> str:
    if named := record.get("dist_name"):
        return str(named)
    return f"{record['name']}-{record['version']}-{record.get('build') or record['build_string']}"
