"""Scanning a cache again that pip goes on using.

Only what changed is read, and later pages prove earlier files.
"""

from __future__ import annotations

import os
import time

import pytest

from entrepot.ports.tool import Kind
from entrepot.tools.pip.tool import tool
from functional.test_pip_cache_real import Lab
from pip_lab import pip_python

pytestmark = pytest.mark.skipif(os.name == "nt", reason="written for POSIX")


def test_only_what_changed_is_read_again(tmp_path):
    """Nothing by the second scan; the new entries, and no more, by the third."""
    pip_python("26.3")
    lab = Lab("26.3", tmp_path)
    try:
        lab.download("pure")
        lab.tool = tool(tmp_path / "state", now=lambda: time.time() + 5)
        first = lab.scan()
        assert lab.tool.scan_stats.read == len(first) == 3
        assert lab.scan() == first
        assert lab.tool.scan_stats.read == 0
        lab.download("multi-tag")
        later = lab.scan()
    finally:
        lab.origin.close()
    assert len(later) == 6
    assert lab.tool.scan_stats.read == 3
    assert {e.certainty for e in later} == {"proven"}


def test_checking_tells_how_far_it_is_while_it_looks_for_entries_too(tmp_path):
    """The look at a large cache takes longer than a second before the first body is read."""
    pip_python("26.3")
    lab, told = Lab("26.3", tmp_path), []
    try:
        lab.download("pure")
        assert not list(
            lab.tool.verify(lab.place, lab.around, progress=lambda *words: told.append(words[2]))
        )
    finally:
        lab.origin.close()
    assert list(dict.fromkeys(told)) == ["directories", "entries", "bytes"]


def test_a_file_that_comes_after_its_page_is_proved_by_it(tmp_path):
    pip_python("26.3")
    lab = Lab("26.3", tmp_path)
    try:
        lab.download("pure")
        wheel = next(e for e in lab.scan() if e.kind is Kind.WHEEL)
        lab.tool.remove([wheel], lab.around)
        assert not [e for e in lab.scan() if e.kind is Kind.WHEEL]
        lab.download("pure")
        again = next(e for e in lab.scan() if e.kind is Kind.WHEEL)
    finally:
        lab.origin.close()
    assert (again.certainty, again.origin) == ("proven", wheel.origin)
