"""A cache that others use while entries go: four installing pips."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from entrepot.ports.tool import Kind
from entrepot.tools.pip.tool import tool
from functional.test_pip_cache_real import Lab
from pip_lab import pip_python

pytestmark = pytest.mark.skipif(os.name == "nt", reason="written for POSIX")


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_no_install_fails_while_entries_are_removed_again_and_again(tmp_path):
    python = pip_python("26.3")
    lab = Lab("26.3", tmp_path)
    rounds = 4
    command = f"{python} -m pip wheel -q --no-deps -w {tmp_path}/out$1-$i pure multi-tag source"
    script = f"for i in $(seq {rounds}); do {command} || exit 1; done"
    try:
        workers = [
            subprocess.Popen(["sh", "-c", script, "sh", str(n)], env=lab.environ, cwd=tmp_path, stderr=subprocess.PIPE)
            for n in range(4)
        ]
        removed = rounds_done = 0
        while any(w.poll() is None for w in workers):
            removed += len(lab.tool.remove(lab.scan(), lab.around).entries)
            list(lab.tool.verify(lab.place, lab.around, repair=True))
            rounds_done += 1
            time.sleep(0.02)
        errors = [w.communicate()[1].decode() for w in workers]
        assert [w.returncode for w in workers] == [0, 0, 0, 0], errors
        assert removed > 10
        assert rounds_done >= 20
    finally:
        lab.origin.close()


def test_only_what_changed_is_read_again(tmp_path):
    """Nothing on the second look; the new entries, and no more, on the third."""
    pip_python("26.3")
    lab = Lab("26.3", tmp_path)
    try:
        lab.download("pure")
        lab.tool = tool(tmp_path / "state", now=lambda: time.time() + 5)
        first = lab.scan()
        assert lab.tool.tally.read == len(first) == 3
        assert lab.scan() == first
        assert lab.tool.tally.read == 0
        lab.download("multi-tag")
        later = lab.scan()
    finally:
        lab.origin.close()
    assert len(later) == 6
    assert lab.tool.tally.read == 3
    assert {e.certainty for e in later} == {"proven"}
    assert [e.key for e in lab.tool.remembered(lab.place, lab.around)] == [e.key for e in later]


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
