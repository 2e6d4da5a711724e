"""A cache that others use while entries go: four installing pips, another user, files that may not be read."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

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


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to become somebody else")
def test_another_user_sees_true_words_and_changes_nothing(tmp_path):
    """Entries of mode 0600 in a directory of root's: listed by size, not opened, not removed."""
    pip_python("26.3")
    lab = Lab("26.3", tmp_path)
    try:
        lab.download("pure")
    finally:
        lab.origin.close()
    for path in lab.place.path.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o600)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    before = {p: p.lstat().st_mtime_ns for p in lab.place.path.rglob("*")}
    code = (
        "import os, sys, pwd; from pathlib import Path; import entrepot.tools.pip.cache, entrepot.tools.pip.removal, entrepot.tools.pip.verify\n"
        "from entrepot.ports.tool import Surroundings; from entrepot.tools.pip.tool import tool\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        f"python = Path({str(pip_python('26.3'))!r})\n"
        f"a = Surroundings({lab.environ!r}, Path({str(lab.home)!r}), Path('/'), 'linux', 65534, python)\n"
        "t = tool(Path('/nonexistent/state')); p = t.places(a)[0]; e = list(t.scan(p, a)); r = t.remove(e, a)\n"
        "f = list(t.verify(p, a, repair=True))\n"
        "print(p.usable, p.why_not); print(len(e), len(r.entries), {w for _, w in r.kept}); print({x.problem for x in f})\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    if "Permission denied" in done.stderr and not done.stdout:
        pytest.skip(f"another user cannot reach this interpreter: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    usable, counts, problems = done.stdout.splitlines()
    assert usable.startswith("False")
    assert "may not write to it" in usable
    assert counts.startswith("3 0 ")
    assert "no permission to remove it" in counts
    assert problems == "{'cannot-be-read'}"
    assert {p: p.lstat().st_mtime_ns for p in lab.place.path.rglob("*")} == before


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
