"""What came of a warming: item by item, and the sum that is shown at the end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from entrepot.cli.output import DONE, FAILED, PARTLY, Align

if TYPE_CHECKING:
    from entrepot.cli.output import Output
    from entrepot.serving.run_stats import Tally


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one item."""

    text: str
    status: str
    """``ready``, ``failed`` or ``not needed`` (its marker or its platform excludes it here)."""
    project: str | None = None
    version: str | None = None
    filename: str | None = None
    why: str = ""


@dataclass(slots=True)
class Warmed:
    """The results of all parts of one warming."""

    results: list[Result] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    without_sdist: list[str] = field(default_factory=list)
    tallies: list[Tally] = field(default_factory=list)

    def add(
        self,
        results: Iterable[Result],
        files: Iterable[str],
        tally: Tally,
        without_sdist: Iterable[str] = (),
    ) -> None:
        """What one part has done."""
        self.results += results
        self.files += files
        self.without_sdist += without_sdist
        self.tallies.append(tally)

    def conclude(self, out: Output) -> int:
        """Show it; the exit status."""
        columns: tuple[tuple[str, Align], ...] = (("ITEM", "<"), ("RESULT", "<"), ("FILE", "<"))
        out.table(columns, [[r.text, r.status, r.filename or r.why or "-"] for r in self.results])
        count = len(self.files)
        lines = "; ".join(tally.last_line(offline=False) for tally in self.tallies)
        out.hint(f"{count} file{'' if count == 1 else 's'} in the store; {lines}")
        for text in self.without_sdist:
            out.warn("no-sdist", f"{text}: its source archive cannot be had")
        for text in dict.fromkeys(text for tally in self.tallies for text in tally.all_warnings()):
            out.warn("run", text, shown=False)
        out.document(
            items=[_record(result) for result in self.results],
            files=self.files,
            bytes_downloaded=sum(tally.bytes_downloaded for tally in self.tallies),
            bytes_from_cache=sum(tally.bytes_from_cache for tally in self.tallies),
        )
        return self._status(self.results)

    def _status(self, results: Sequence[Result]) -> int:
        failed = sum(result.status == "failed" for result in results)
        if failed and all(result.status != "ready" for result in results):
            return FAILED
        return PARTLY if failed or self.without_sdist else DONE


def _record(result: Result) -> dict[str, str | None]:
    return {
        "item": result.text,
        "status": result.status,
        "project": result.project,
        "version": result.version,
        "filename": result.filename,
        "why": result.why,
    }
