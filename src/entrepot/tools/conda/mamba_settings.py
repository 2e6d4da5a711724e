"""mamba's configuration: its own files beside conda's, edited line by line as condarc is.

The file is ``~/.mambarc``, the strongest of the user's own: mamba's ``config`` writes ``mambarc``
in the configuration folder, which ``~/.condarc`` beats.

Source: that command, read: ``mamba config prepend KEY VALUE --file FILE``; it rewrites a file whole
and keeps no comment.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from entrepot.ports.tool import Surroundings
from entrepot.tools.conda.condarc import Document
from entrepot.tools.conda.pkgs_dirs import Cache
from entrepot.tools.conda.pkgs_dirs import mamba_search_path as search_path
from entrepot.tools.conda.pkgs_dirs import resolve_mamba as resolve
from entrepot.tools.conda.rc_settings import RcSettings
from entrepot.tools.conda.roots import mamba_roots


class MambaSettings(RcSettings):
    """The configuration of the mamba or micromamba in use. mamba itself is not asked."""

    tool = "mamba"

    def __init__(self, around: Surroundings, path: Path | None = None) -> None:
        super().__init__(around, path)
        roots = mamba_roots(around)
        self._root = str(roots[0].path) if roots else ""

    def file(self) -> Path:
        """See :class:`RcSettings`."""
        return self._path or self.around.home / ".mambarc"

    def _documents(self) -> Sequence[Document]:
        return resolve(self.around, self._root).documents

    def _caches(self) -> Sequence[Cache]:
        return resolve(self.around, self._root).caches

    def _is_stronger(self, path: Path) -> bool:
        order = search_path(
            self.around, self._root, self.around.environ.get("CONDA_PREFIX") or self._root
        )

        def rank(file: Path) -> int:
            return next(
                (order.index(str(each)) for each in (file, file.parent) if str(each) in order), -1
            )

        return rank(path) > rank(self.file())

    def _native(self, path: Path, verb: str, key: str, value: str = "") -> str:
        words = (
            f"mamba config {verb} {key} {shlex.quote(value)}"
            if value
            else f"mamba config {verb} {key}"
        )
        return f"{words} --file {shlex.quote(str(path))}"
