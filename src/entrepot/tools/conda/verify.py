"""Checking a folder of packages, and repairing it.

From the archive beside a package where that is right, else by taking it away.

The client fetches what was taken away again; a damaged package it would use for ever. A repaired
file is a new one beside the old name, never written in place: environments that link to the damaged
file keep what they have. A package that an environment reaches by a symbolic link is repaired from
its archive or left alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from entrepot.cache_root import Root
from entrepot.names import CONDA_SUFFIXES
from entrepot.ports.tool import BlockedBy, Entry, Finding, Kind, Progress, Surroundings
from entrepot.tools._shared.safe_read import open_regular
from entrepot.tools.conda.archive import problem as archive_problem
from entrepot.tools.conda.archive import restore
from entrepot.tools.conda.cache import world_of
from entrepot.tools.conda.environments import load_json
from entrepot.tools.conda.folder import entries
from entrepot.tools.conda.removal import remove
from entrepot.tools.conda.trees import LARGEST_INFO_BYTES, Damage, damages, listed
from entrepot.tools.conda.urls import stem
from entrepot.tools.conda.writable import MAGIC

RECORD = "info/repodata_record.json"
INFO = ("info/index.json", "info/paths.json", "info/files")


@dataclass(frozen=True, slots=True)
class _Case:
    """One package under examination."""

    entry: Entry
    path: Path
    archive: Path | None
    """The archive it came from, if that is there and right."""
    url: str


@dataclass(slots=True)
class Verifier:
    """One check of one folder.

    Args:
        tool: whose folder.
        place: the place it belongs to.
        folder: where packages lie side by side.
        around: the world.
        now: seconds since the epoch.
        with_records: whether the tool keeps records and ``urls.txt`` (conda, mamba) or not
            (rattler).
        repair: repair or remove what is damaged.
        full: hash every unpacked file.
        progress: told after each package.
    """

    tool: str
    place: Path
    folder: Path
    around: Surroundings
    now: float
    with_records: bool = True
    repair: bool = False
    full: bool = False
    progress: Progress | None = None
    _good: dict[str, Path] = field(default_factory=dict)

    def findings(self) -> Iterator[Finding]:
        """Everything that is wrong, repaired when asked to."""
        look = world_of(self.around).look(self.tool, self.place, self.folder, self.now)
        found = list(entries(look))
        urls = look.urls.by_name
        records = {
            e.filename: load_json(e.paths[0] / RECORD)
            for e in found
            if e.kind is Kind.UNPACKED and e.filename
        }
        yield from self._magic(found)
        for entry in found:
            if entry.kind is Kind.ARCHIVE:
                yield from self._archive(entry, records.get(entry.filename or "", {}))
        packages = [e for e in found if _is_package(e)]
        for number, entry in enumerate(packages):
            if self.progress:
                self.progress(number, len(packages), "packages")
            yield from self._package(self._case(entry, urls))
        for entry in found:
            if entry.kind is Kind.PAGE and not entry.block:
                yield from self._index(entry)

    # -- the folder itself, archives and indexes ---------------------------------------------------

    def _magic(self, found: list[Entry]) -> Iterator[Finding]:
        # Conda fails for every package of a folder without urls.txt (26.7, by experiment).
        path = self.folder / MAGIC
        if self.with_records and not path.exists() and any(_is_package(entry) for entry in found):
            done = ""
            if self.repair:
                with suppress(OSError), Root(self.place) as root:
                    with root.folder(self.folder) as folder:
                        os.close(folder.open(MAGIC, os.O_WRONLY | os.O_CREAT))
                    done = "made an empty one"
            text = (
                f"{self.folder} holds packages but no urls.txt: conda sees them and cannot use them"
            )
            yield Finding(self.tool, None, "missing-urls-txt", text, path, done)

    def _archive(self, entry: Entry, record: dict[str, Any]) -> Iterator[Finding]:
        path = entry.paths[0]
        known: dict[str, Any] = {
            key: record[key]
            for key in ("size", "md5", "sha256")
            if key in record and record.get("url")
        }
        try:
            why = archive_problem(path, known, entry.size)
        except OSError as exc:
            why = f"unreadable: {exc.strerror}"
        if not why:
            self._good[stem(path.name)] = path
            return
        word, _, text = why.partition(": ")
        yield Finding(
            self.tool,
            entry,
            word,
            f"{path.name}: {text}",
            path,
            self._away(entry) if self.repair else "",
        )

    def _index(self, entry: Entry) -> Iterator[Finding]:
        for path in entry.paths:
            if (
                path.suffix == ".json"
                and not path.name.endswith((".info.json", ".state.json"))
                and _is_broken_json(path)
            ):
                text = f"{path.name} is no repodata: it is broken or empty"
                yield Finding(
                    self.tool,
                    entry,
                    "broken-index",
                    text,
                    path,
                    self._away(entry) if self.repair else "",
                )
                return

    def _away(self, entry: Entry) -> str:
        """Remove an entry as ``remove`` does; what was done."""
        # The repair may have changed the stamp.
        done = remove([replace(entry, stamp="")], self.around, force=True)
        return "removed; it is fetched again when it is needed" if done.entries else ""

    # -- packages ----------------------------------------------------------------------------------

    def _case(self, entry: Entry, urls: dict[str, str]) -> _Case:
        path = entry.paths[0]
        archive = self._good.get(path.name)
        url = next((urls[path.name + e] for e in CONDA_SUFFIXES if path.name + e in urls), "")
        return _Case(entry, path, archive, url)

    def _package(self, case: _Case) -> Iterator[Finding]:
        if (
            case.entry.block
            and case.entry.block.by in (BlockedBy.BEING_WRITTEN, BlockedBy.RECENT)
            and self.with_records
            and not (case.path / RECORD).exists()
        ):
            # Being unpacked right now: conda writes the record last, rattler unpacks elsewhere
            return
        files = None if self._is_half(case) else listed(case.path)
        if files is None and case.archive:
            yield self._finding(
                case, "half-unpacked", "its unpacking was interrupted", self._mend_info(case)
            )
            files = listed(case.path) if self.repair else None
        elif files is None:
            yield self._finding(
                case, "half-unpacked", "its unpacking was interrupted", self._remove_case(case)
            )
        if files is None:
            return
        found = list(damages(case.path, files, full=self.full))
        mended = self._mend(case, found) if found and self.repair else ""
        for damage in found:
            yield self._finding(case, damage.problem, damage.text, mended, damage.path)
        if not mended.startswith("removed") and self.with_records:
            yield from self._record(case)

    def _is_half(self, case: _Case) -> bool:
        return not load_json(case.path / "info/index.json")

    def _write(self, case: _Case, name: str, mode: int, data: bytes) -> None:
        """A new file in place of the old name, by descriptor from the place's root.

        Raises:
            OSError: it cannot be written.
        """
        path = case.path / name
        umask = os.umask(0)
        os.umask(umask)
        with Root(self.place) as root:
            root.make_folder(path.parent)
            with root.folder(path.parent) as folder:
                folder.replace(path.name, data, temporary=".entrepot.{}", mode=mode & ~umask)

    def _finding(self, case: _Case, word: str, text: str, repaired: str, path: str = "") -> Finding:
        return Finding(
            self.tool, case.entry, word, f"{case.path.name}: {text}", case.path / path, repaired
        )

    def _remove_case(self, case: _Case) -> str:
        return self._away(case.entry) if self.repair else ""

    def _mend_info(self, case: _Case) -> str:
        if not self.repair or case.archive is None:
            return ""
        wanted = dict.fromkeys(INFO, LARGEST_INFO_BYTES)
        done = restore(
            case.archive, wanted, lambda name, mode, data: self._write(case, name, mode, data)
        )
        return (
            "unpacked again from its archive"
            if "info/index.json" in done
            else self._remove_case(case)
        )

    def _mend(self, case: _Case, found: list[Damage]) -> str:
        """Files from the archive; when not all of them can be had the package goes."""
        if case.archive is not None:
            wanted = {damage.path: damage.size for damage in found}
            with suppress(OSError):
                done = restore(
                    case.archive,
                    wanted,
                    lambda name, mode, data: self._write(case, name, mode, data),
                )
                if done == set(wanted):
                    return "restored from its archive"
        return self._remove_case(case)

    def _record(self, case: _Case) -> Iterator[Finding]:
        """The channel's record.

        Broken, made up by conda for a package of unknown origin, or with its dependencies lost.
        """
        path = case.path / RECORD
        if not path.exists():
            return
        record, index = load_json(path), load_json(case.path / "info/index.json")
        if not record:
            yield self._junk(case, "broken-record", "its record is broken")
        elif record.get("channel") == "<unknown>" or not record.get("url"):
            yield self._junk(case, "junk-record", "its record does not say where it came from")
        elif not record.get("depends") and index.get("depends"):
            done = ""
            if self.repair:
                lost = {key: index[key] for key in ("depends", "constrains") if index.get(key)}
                with suppress(OSError):
                    self._write(case, RECORD, 0o644, json.dumps(record | lost, indent=2).encode())
                    done = "dependencies taken from index.json"
            yield self._finding(
                case, "emptied-depends", "its record lost its dependencies", done, RECORD
            )

    def _junk(self, case: _Case, word: str, text: str) -> Finding:
        """With an archive and its URL conda makes a right record itself.

        Without them the package is fetched again anyway.
        """
        done = ""
        if self.repair and case.archive is not None and case.url:
            with suppress(OSError):
                with Root(self.place) as root:
                    root.unlink(case.path / RECORD)
                done = "dropped the record: conda makes it again from index.json and urls.txt"
        elif self.repair:
            done = self._remove_case(case)
        return self._finding(case, word, text, done, RECORD)


def _is_package(entry: Entry) -> bool:
    return entry.kind is Kind.UNPACKED or entry.removable_because == "half unpacked"


def _is_broken_json(path: Path) -> bool:
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            json.load(file)
    except (OSError, ValueError, RecursionError):
        return True
    return False
