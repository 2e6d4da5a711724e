"""What a run leaves to its child and its neighbours: descriptors, the exit status, the terminal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import clients

ENTREPOT = f"{sys.executable} -m entrepot"


def bash(script: str, home: Path, **options) -> subprocess.CompletedProcess[str]:
    """Run a script in which $E is entrepot."""
    environ = clients.clean_environment(home, E=ENTREPOT, ENTREPOT_STORE=str(home / "store"))
    return clients.run(["bash", "-c", script], environ, **options)


def test_descriptors_that_the_shell_opened_stay_open_in_the_child(tmp_path):
    done = bash("$E run -q -- cat <(echo one) <(echo two)", tmp_path)
    assert (done.returncode, done.stdout) == (0, "one\ntwo\n")


def test_a_job_server_of_make_is_inherited(tmp_path):
    (tmp_path / "Makefile").write_text(
        "all: a b\na b:\n\t+@$(E) run -q -- $(MAKE) -s -f inner $@\n"
    )
    (tmp_path / "inner").write_text("a b:\n\t@echo made $@\n")
    done = bash(f"cd {tmp_path} && make -s -j2", tmp_path)
    assert sorted(done.stdout.splitlines()) == ["made a", "made b"]
    assert "jobserver unavailable" not in done.stderr


def test_the_child_gets_none_of_our_own_descriptors(tmp_path):
    done = bash("$E run -q -- ls /proc/self/fd", tmp_path)
    # 0 to 2, and the directory that ls itself reads
    assert len(done.stdout.split()) == 4, done.stdout


@pytest.mark.parametrize("status", [0, 7])
@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-", "2> >(exec <&-; sleep 1)"])
def test_the_exit_status_is_the_childs_when_nothing_can_be_said(tmp_path, status, where):
    done = bash(f"$E run -- sh -c 'exit {status}' {where}", tmp_path)
    assert done.returncode == status


def test_a_full_standard_error_changes_no_result(tmp_path):
    told = bash("$E where pip 2>/dev/full", tmp_path)
    assert (told.returncode, "pip" in told.stdout) == (0, True)


def test_the_run_has_no_descriptor_for_its_child_that_it_was_not_given(tmp_path):
    script = "exec 7</dev/null; $E run -q -- sh -c 'test -e /proc/self/fd/7 && echo inherited'"
    assert bash(script, tmp_path).stdout == "inherited\n"
