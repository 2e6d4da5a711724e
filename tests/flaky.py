"""Judge tests that failed and were run once more.

`python tests/flaky.py FIRST.xml SECOND.xml LIST`.

A test that fails with real clients on a busy machine and passes alone may have met the machine, or
have a race. At most two such tests a run are let through. The list keeps their names until somebody
has found the reason and taken them off: a test on it that needs a second run again fails the run,
and so does one that does not pass the second time.
"""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

MOST = 2
"""Tests that may need a second run for the first time, in one run."""


@dataclass(frozen=True)
class Verdict:
    """What needed a second run and passed it, and why the whole fails all the same.

    Empty when it does not.
    """

    flaky: list[str]
    new: list[str]
    wrong: str


def outcomes(report: Path) -> dict[str, str]:
    """Node id -> passed, skipped or failed, the worst of its phases, of a JUnit report of the family ``xunit1``.

    A report that is not there has none: pytest writes it at its end.
    """
    found: dict[str, str] = {}
    order = ["passed", "skipped", "failed"]
    if not report.is_file():
        return found
    for case in ET.parse(report).iter("testcase"):
        file = case.get("file", "")
        below = case.get("classname", "").removeprefix(file.removesuffix(".py").replace("/", "."))
        node = "::".join([file, *filter(None, below.split(".")), case.get("name", "")])
        kinds = {child.tag for child in case}
        outcome = (
            "failed"
            if kinds & {"failure", "error"}
            else "skipped"
            if "skipped" in kinds
            else "passed"
        )
        found[node] = max(outcome, found.get(node, "passed"), key=order.index)
    return found


def judge(first: Mapping[str, str], second: Mapping[str, str], known: Iterable[str]) -> Verdict:
    """What two runs' outcomes come to, the second one of what failed in the first."""
    failed = [node for node, outcome in first.items() if outcome == "failed"]
    flaky = [node for node in failed if second.get(node) == "passed"]
    new = [node for node in flaky if node not in set(known)]
    again = [node for node in flaky if node not in new]
    still = [node for node in failed if node not in flaky]
    still += [node for node, outcome in second.items() if outcome == "failed" and node not in still]
    wrong = ""
    if still:
        wrong = f"did not pass the second time: {', '.join(still)}"
    elif not failed:
        wrong = "the first run failed, and no test in it"
    elif again:
        wrong = f"needed a second run before, see the list: {', '.join(again)}"
    elif len(new) > MOST:
        wrong = f"{len(new)} tests needed a second run, more than {MOST}"
    return Verdict(flaky, new, wrong)


def known(path: Path) -> list[str]:
    """The node ids on the list."""
    return [
        line
        for line in path.read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]


def note(path: Path, nodes: Iterable[str], day: str) -> None:
    """Add to the list."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"# {day}: failed, then passed\n{node}\n" for node in nodes)


def main(first: str, second: str, names: str) -> int:
    """Judge, note what is new on the list and say so; the exit status."""
    path = Path(names)
    verdict = judge(outcomes(Path(first)), outcomes(Path(second)), known(path))
    note(path, verdict.new, dt.datetime.now(tz=dt.UTC).date().isoformat())
    for node in verdict.flaky:
        print(f"{node}{'' if node in verdict.new else ' (again)'}")
    if verdict.new:
        print(f"now in {names}: commit it, find the race, and take them off")
    if verdict.wrong:
        print(f"error: {verdict.wrong}")
    return int(bool(verdict.wrong))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
