"""docs/explanation/failures.md says what the tests show."""

from __future__ import annotations

import re
from pathlib import Path

from entrepot.config.settings import DEFAULT_TIMEOUT_S
from entrepot.serving import policy
from entrepot.testing.faults import KINDS
from failure_table import ROWS, table

DOCUMENT = (Path(__file__).parents[1] / "docs" / "explanation" / "failures.md").read_text(
    encoding="utf-8"
)


def test_the_table_is_the_one_that_is_tested():
    assert table() in DOCUMENT


def test_every_kind_of_fault_has_a_row_once_and_those_that_can_last_have_one_for_always():
    assert {row.kind for row in ROWS} == KINDS - {"delay", "novalidators"}
    assert {row.kind for row in ROWS if row.times == -1} == {
        "wronghash",
        "short",
        "corrupt",
        "truncate",
        "reset",
        "stall",
        "silence",
    }


def test_the_figures_are_those_of_the_policy():
    text = re.sub(r"\s+", " ", DOCUMENT)
    for figure in (
        f"last {policy.HELD_BACK // 1024} KiB",
        f"after {policy.BACKOFF_S[0]} s and after {policy.BACKOFF_S[1]} s",
        f"for {policy.REMEMBERED_S:g} s",
        f"at most {policy.PATIENCE_S:g} s",
        f"{DEFAULT_TIMEOUT_S:g} s unless set",
    ):
        assert figure in text
    assert policy.MAX_ATTEMPTS == 6
    assert {408, 429, 500, 502, 503, 504, *range(520, 525)} == policy.RETRIED
