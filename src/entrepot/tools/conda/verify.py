"""Checking a folder of packages, and repairing it.

From the archive beside a package where that is right, else by taking the package away: the client
fetches it again, a damaged one it would use for ever. A repaired file is a new one beside the old
name, never written in place: environments that link to the damaged file keep what they have. A
package that an environment reaches by a symbolic link is repaired from its archive or left alone.

Source: conda 26.7 and ``paths.json`` version 1: files in a cache are as they were packed, so their
digests hold whatever ``prefix_placeholder`` says; of a softlink only that a link is there is
checked, its digest is the target's.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from entrepot.cache_root import Root
from entrepot.names import CONDA_SUFFIXES
from entrepot.ports.tool import BlockedBy, Finding, Kind, Progress, Surroundings
from entrepot.tools._shared.safe_read import open_regular, read_regular
from entrepot.tools.conda.archive import archive_problem, digest_of, restore
from entrepot.tools.conda.entry import CondaEntry, load_json
from entrepot.tools.conda.pkgs_dirs import MAGIC
from entrepot.tools.conda.removal import CondaRemoval
from entrepot.tools.conda.scan import FolderScan
from entrepot.tools.conda.urls import stem

RECORD = "info/repodata_record.json"
INFO = ("info/index.json", "info/paths.json", "info/files")
LARGEST_INFO_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Listed:
    """One file that a package should have."""

    path: str
    size: int | None
    sha256: str
    is_link: bool = False


@dataclass(frozen=True, slots=True)
class Damage:
    """One file that is not as it was packed."""

    file: Listed
    problem: str
    """A kebab-case word."""
    text: str


@dataclass(slots=True)
class Verifier:
    """One check of one folder.

    Args:
        tool: whose folder.
        folder: where packages lie side by side.
        around: where to look.
        now: seconds since the epoch.
        keeps_records: whether the tool keeps records and ``urls.txt`` (conda, mamba) or not
            (rattler).
        repair: repair or remove what is damaged.
        full: hash every unpacked file.
        progress: told after each package.
    """

    tool: str
    folder: Path
    around: Surroundings
    now: float
    keeps_records: bool = True
    repair: bool = False
    full: bool = False
    progress: Progress | None = None
    _right: dict[str, Path] = field(default_factory=dict)
    """Archives that are right, by the name of their package's folder."""
    _urls: Mapping[str, str] = field(default_factory=dict)

    def findings(self) -> Iterator[Finding]:
        """Everything that is wrong, repaired when asked to."""
        scan = FolderScan(
            self.tool, self.folder, self.folder, self.around, self.now, self.keeps_records
        )
        found = scan.entries()
        self._urls = scan.urls.by_name
        records = {
            entry.filename: load_json(entry.paths[0] / RECORD)
            for entry in found
            if entry.kind is Kind.UNPACKED and entry.filename
        }
        packages = [entry for entry in found if entry.is_package]
        if packages:
            yield from self._log_of_downloads()
        for entry in found:
            if entry.kind is Kind.ARCHIVE:
                yield from self._archive(entry, records.get(entry.filename or "", {}))
        for number, entry in enumerate(packages):
            if self.progress:
                self.progress(number, len(packages), "packages")
            yield from self._package(entry)
        for entry in found:
            if entry.kind is Kind.PAGE and not entry.block:
                yield from self._index(entry)

    # -- the folder itself, archives and indexes ---------------------------------------------------

    def _log_of_downloads(self) -> Iterator[Finding]:
        # conda fails for every package of a folder without urls.txt (26.7, by experiment)
        path = self.folder / MAGIC
        if not self.keeps_records or path.exists():
            return
        done = ""
        if self.repair:
            with suppress(OSError), Root(self.folder) as root:
                with root.folder(self.folder) as folder:
                    os.close(folder.open(MAGIC, os.O_WRONLY | os.O_CREAT))
                done = "made an empty one"
        text = f"{self.folder} holds packages but no urls.txt: conda sees them and cannot use them"
        yield Finding(self.tool, None, "missing-urls-txt", text, path, done)

    def _archive(self, entry: CondaEntry, record: dict[str, Any]) -> Iterator[Finding]:
        path = entry.paths[0]
        try:
            problem = archive_problem(path, record if record.get("url") else {}, entry.size)
        except OSError as exc:
            problem = ("unreadable", str(exc.strerror))
        if problem is None:
            self._right[stem(path.name)] = path
            return
        word, text = problem
        yield Finding(self.tool, entry, word, f"{path.name}: {text}", path, self._away(entry))

    def _index(self, entry: CondaEntry) -> Iterator[Finding]:
        for path in entry.paths:
            if (
                path.suffix == ".json"
                and not path.name.endswith((".info.json", ".state.json"))
                and _is_broken_json(path)
            ):
                text = f"{path.name} is no repodata: it is broken or empty"
                done = self._away(entry)
                yield Finding(self.tool, entry, "broken-index", text, path, done)
                return

    def _away(self, entry: CondaEntry) -> str:
        """Remove an entry as ``remove`` does, if repairing is asked for; what was done."""
        if not self.repair:
            return ""
        # The repair may have changed the stamp.
        done = CondaRemoval(self.around, force=True).run([replace(entry, stamp="")])
        return "removed; it is fetched again when it is needed" if done.entries else ""

    # -- packages ----------------------------------------------------------------------------------

    def _package(self, entry: CondaEntry) -> Iterator[Finding]:
        path = entry.paths[0]
        if (
            entry.block
            and entry.block.by in (BlockedBy.BEING_WRITTEN, BlockedBy.RECENT)
            and self.keeps_records
            and not (path / RECORD).exists()
        ):
            # Being unpacked right now: conda writes the record last, rattler unpacks elsewhere
            return
        files = listed(path) if load_json(path / "info/index.json") else None
        if files is None:
            wanted, done = (
                dict.fromkeys(INFO, LARGEST_INFO_BYTES),
                "unpacked again from its archive",
            )
            if not self.repair or "info/index.json" not in self._from_archive(path, wanted):
                done = self._away(entry)
            text = "its unpacking was interrupted"
            yield self._finding(entry, "half-unpacked", text, done)
            # what else is damaged shows once the list of its files is there again
            files = listed(path) if self.repair and path.name in self._right else None
        if files is None:
            return
        found = list(damages(path, files, full=self.full))
        done = self._restore(entry, found) if found and self.repair else ""
        for damage in found:
            yield self._finding(entry, damage.problem, damage.text, done, damage.file.path)
        if not done.startswith("removed") and self.keeps_records:
            yield from self._record(entry)

    def _finding(
        self, entry: CondaEntry, word: str, text: str, done: str, name: str = ""
    ) -> Finding:
        path = entry.paths[0]
        return Finding(self.tool, entry, word, f"{path.name}: {text}", path / name, done)

    def _restore(self, entry: CondaEntry, found: list[Damage]) -> str:
        """Files from the archive; when not all of them can be had the package goes."""
        sizes = {each.file.path: each.file.size for each in found}
        wanted = {
            name: LARGEST_INFO_BYTES if size is None else size for name, size in sizes.items()
        }
        with suppress(OSError):
            if self._from_archive(entry.paths[0], wanted) == set(wanted):
                return "restored from its archive"
        return self._away(entry)

    def _from_archive(self, package: Path, wanted: dict[str, int]) -> set[str]:
        """Write members of the archive, each of at most so many bytes; which were written."""
        archive = self._right.get(package.name)
        if archive is None:
            return set()
        return restore(
            archive, wanted, lambda name, mode, data: self._write(package / name, mode, data)
        )

    def _write(self, path: Path, mode: int, data: bytes) -> None:
        """A new file in place of the old name, by descriptor from the folder's root.

        Raises:
            OSError: it cannot be written.
        """
        umask = os.umask(0)
        os.umask(umask)
        with Root(self.folder) as root:
            root.make_folder(path.parent)
            with root.folder(path.parent) as folder:
                folder.replace(path.name, data, temporary=".entrepot.{}", mode=mode & ~umask)

    def _record(self, entry: CondaEntry) -> Iterator[Finding]:
        """The channel's record: broken, made up by conda, or with its dependencies lost."""
        package = entry.paths[0]
        path = package / RECORD
        if not path.exists():
            return
        record, index = load_json(path), load_json(package / "info/index.json")
        if not record:
            yield self._junk(entry, "broken-record", "its record is broken")
        elif record.get("channel") == "<unknown>" or not record.get("url"):
            yield self._junk(entry, "junk-record", "its record does not say where it came from")
        elif not record.get("depends") and index.get("depends"):
            done = ""
            if self.repair:
                lost = {key: index[key] for key in ("depends", "constrains") if index.get(key)}
                with suppress(OSError):
                    self._write(path, 0o644, json.dumps(record | lost, indent=2).encode())
                    done = "dependencies taken from index.json"
            text = "its record lost its dependencies"
            yield self._finding(entry, "emptied-depends", text, done, RECORD)

    def _junk(self, entry: CondaEntry, word: str, text: str) -> Finding:
        """With an archive and its URL conda makes a right record itself.

        Without them the package is fetched again anyway.
        """
        package, done = entry.paths[0], ""
        has_url = any(package.name + end in self._urls for end in CONDA_SUFFIXES)
        if self.repair and package.name in self._right and has_url:
            with suppress(OSError):
                with Root(self.folder) as root:
                    root.unlink(package / RECORD)
                done = "dropped the record: conda makes it again from index.json and urls.txt"
        else:
            done = self._away(entry)
        return self._finding(entry, word, text, done, RECORD)


def _is_broken_json(path: Path) -> bool:
    """Whether a file is no JSON to its end, read bit by bit: repodata of 120 MB takes 12 MB so."""
    import ijson  # noqa: PLC0415  # only where there are indexes

    try:
        with os.fdopen(open_regular(path), "rb") as file:
            for _ in ijson.basic_parse(file):
                pass
    except (OSError, ijson.JSONError):
        return True
    return False


# -- unpacked files --------------------------------------------------------------------------------


def listed(package: Path) -> list[Listed] | None:
    """What should be there; ``None`` when neither ``paths.json`` nor ``files`` can be read."""
    paths = load_json(package / "info/paths.json").get("paths")
    if isinstance(paths, list):
        found = []
        for each in paths:
            if not isinstance(each, dict) or not _is_inside(str(each.get("_path", ""))):
                return None
            kind, size = each.get("path_type"), each.get("size_in_bytes")
            if kind != "directory":
                digest = str(each.get("sha256") or "").lower()
                known = size if isinstance(size, int) else None
                found.append(Listed(each["_path"], known, digest, kind == "softlink"))
        return found
    try:
        names = read_regular(package / "info/files").decode("utf-8").split("\n")
    except (OSError, ValueError):
        return None
    return [Listed(name, None, "") for name in names if name and _is_inside(name)]


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts


def damages(package: Path, files: list[Listed], *, full: bool) -> Iterator[Damage]:
    """Every listed file that is missing, of another size, or (``full``) of another digest."""
    for each in files:
        path = package / each.path
        try:
            about = path.lstat()
        except OSError:
            yield Damage(each, "missing-file", f"{each.path} is not there")
            continue
        if each.is_link or not stat.S_ISREG(about.st_mode):
            continue
        # what has other links was edited through one of them
        edited = "edited-through-a-link" if about.st_nlink > 1 else ""
        if each.size is not None and about.st_size != each.size:
            word = "zero-length-file" if not about.st_size else edited or "wrong-size"
            yield Damage(each, word, f"{each.path} has {about.st_size} bytes of {each.size}")
        elif full and each.sha256 and digest_of(path, "sha256") != each.sha256:
            text = f"{each.path} is not what was packed (sha256)"
            yield Damage(each, edited or "digest-mismatch", text)
