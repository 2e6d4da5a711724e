"""conda's configuration.

Read as conda merges it, edited in the file that ``conda config`` writes.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from entrepot.ports.tool import Change, Surroundings
from entrepot.tools.conda.conda_asking import shown
from entrepot.tools.conda.condarc import Document
from entrepot.tools.conda.keys import LISTS
from entrepot.tools.conda.pkgs_dirs import Cache, resolve
from entrepot.tools.conda.rc_settings import RcSettings, masked
from entrepot.tools.conda.roots import conda_roots


class CondaSettings(RcSettings):
    """The configuration of the conda in use; its usual file is ``~/.condarc``."""

    tool = "conda"

    def __init__(self, around: Surroundings, path: Path | None = None) -> None:
        super().__init__(around, path)
        roots = conda_roots(around)
        self._root = str(roots[0].path) if roots else ""

    def file(self) -> Path:
        """See :class:`RcSettings`."""
        return self._path or self.around.home / ".condarc"

    def ask(self, change: Change) -> Change:
        """Ask conda what the key is now, and compare with our own working out.

        Nothing is said where no conda answers.
        """
        said, ours = shown(change.key, self.around), self.get(change.key)
        if said is None:
            return change
        if change.key == "pkgs_dirs":
            return replace(change, verified=masked(change.key, said), differs=said != ours)
        missing = (
            change.key not in LISTS
            and change.after is not None
            and said.lower() != change.after.lower()
        )
        return replace(change, verified=masked(change.key, said), differs=missing)

    def _documents(self) -> Sequence[Document]:
        return resolve(self.around, self._root).documents

    def _caches(self) -> Sequence[Cache]:
        return resolve(self.around, self._root).caches

    def _is_stronger(self, path: Path) -> bool:
        prefix = self.around.environ.get("CONDA_PREFIX")
        return str(path) == self.around.environ.get("CONDARC") or (
            prefix is not None and path.is_relative_to(prefix)
        )

    def _native(self, path: Path, verb: str, key: str, value: str = "") -> str:
        words = f"conda config {self._flag(path)}--{verb} {key}"
        return f"{words} {shlex.quote(value)}" if value else words

    def _flag(self, path: Path) -> str:
        if path == self.around.home / ".condarc":
            return ""
        return (
            "--system "
            if self._root and path == Path(self._root) / ".condarc"
            else f"--file {shlex.quote(str(path))} "
        )
