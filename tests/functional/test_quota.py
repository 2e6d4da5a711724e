"""Quotas beside the caches: by the `quota` program, and by a command's word."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from entrepot.tools._shared.quota import Quota, QuotaUnknown, read, told_by

QUOTA = """#!/bin/sh
echo "$@" >> "$HOME/asked"
case "$1" in
-u) echo "Disk quotas for user ana (uid 54321): "
    echo "     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace"
    echo "      /dev/sda1   18600       0   20000              5       0      50        " ;;
-g) echo "Disk quotas for group ana (gid 54321): none" ;;
esac
"""


def status(home: Path, *more: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "entrepot", "status", *more],
        env={"PATH": os.environ["PATH"], "HOME": str(home), **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_status_shows_what_the_quota_program_says_of_local_file_systems(tmp_path):
    program = tmp_path / "bin/quota"
    program.parent.mkdir()
    program.write_text(QUOTA)
    program.chmod(0o755)
    done = status(tmp_path, PATH=f"{program.parent}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    assert "Quota of /dev/sda1: 19 MB of 20 MB used (93 %), 5 of 50 files" in done.stdout
    assert "! quota of /dev/sda1 is nearly used up (93 %)      entrepot clean" in done.stdout
    assert (tmp_path / "asked").read_text() == "-u -l -w\n-g -l -w\n"
    said = json.loads(status(tmp_path, "--json", PATH=f"{program.parent}:/usr/bin:/bin").stdout)
    assert said["quotas"] == [
        {
            "where": "/dev/sda1",
            "whose": "user",
            "used": 18_600 * 1024,
            "limit": 20_480_000,
            "files": 5,
            "files_limit": 50,
        }
    ]
    assert "quota-nearly-full" in [warning["id"] for warning in said["warnings"]]


def test_a_quota_program_that_fails_is_not_spoken_of(tmp_path):
    program = tmp_path / "bin/quota"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    done = status(tmp_path, PATH=f"{program.parent}:{os.environ['PATH']}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "uota" not in done.stdout


TABLES = {
    "quota -w": (
        (
            "Disk quotas for user ana (uid 1000): \n"
            "     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace\n"
            "/dev/sda1  412000  0  500000             7100       0   10000\n"
        ),
        [Quota("/dev/sda1", "command", 412_000 * 1024, 500_000 * 1024, 7100, 10_000)],
    ),
    "quota, over its limits, on broken lines": (
        (
            "Disk quotas for user ana (uid 1000): \n"
            "     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace\n"
            "server:/export/home/with/a/long/name\n"
            "                 412000* 400000  500000   6days    7100*   7000   10000   2days\n"
            "server:/scratch\n"
            "                      12       0       0               3       0       0        \n"
        ),
        [
            Quota(
                "server:/export/home/with/a/long/name",
                "command",
                412_000 * 1024,
                500_000 * 1024,
                7100,
                10_000,
            )
        ],
    ),
    "quota -s": (
        (
            "Disk quotas for user ana (uid 1000): \n"
            "     Filesystem   space   quota   limit   grace   files   quota   limit   grace\n"
            "      /dev/sda1    403M*   300M      2G   6days    7100       0       0        \n"
        ),
        [Quota("/dev/sda1", "command", 403 << 20, 2 << 30, 7100, None)],
    ),
    "lfs quota": (
        (
            "Disk quotas for usr ana (uid 1000):\n"
            "     Filesystem  kbytes   quota   limit   grace   files   quota   limit   grace\n"
            "         /lustre  412000       0  500000       -    7100       0   10000       -\n"
            "uid 1000 is using default block quota setting\n"
        ),
        [Quota("/lustre", "command", 412_000 * 1024, 500_000 * 1024, 7100, 10_000)],
    ),
    "no quota": ("Disk quotas for user root (uid 0): none\n", []),
    "numbers": (
        "41200000000 50000000000 7100 10000\n",
        [Quota("", "command", 41_200_000_000, 50_000_000_000, 7100, 10_000)],
    ),
    "sizes": ("41.2GB 50GB", [Quota("", "command", 41_200_000_000, 50_000_000_000)]),
    "something else": ("usage: quota [-f]\n", None),
}


@pytest.mark.parametrize(("text", "wanted"), TABLES.values(), ids=TABLES)
def test_common_commands_are_understood(text, wanted):
    assert read(text) == wanted


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (["/nowhere/quota"], "cannot be run: No such file or directory"),
        (["/bin/sh", "-c", "echo no server >&2; exit 3"], "ended with status 3: no server"),
        (
            ["/bin/sh", "-c", "echo hello there everybody"],
            "said what is not understood: hello there everybody",
        ),
    ],
)
def test_a_command_that_fails_says_why(command, why):
    with pytest.raises(QuotaUnknown, match=why):
        told_by(command, {})


def test_a_command_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr("entrepot.tools._shared.quota.PATIENCE_S", 0.2)
    with pytest.raises(QuotaUnknown, match="did not end within"):
        told_by(["/bin/sh", "-c", "sleep 60"], {})


def test_a_configured_command_is_asked_and_its_failure_does_no_harm(tmp_path):
    told = status(tmp_path, ENTREPOT_QUOTA="printf '950000000 1000000000 5 0'")
    assert (
        "Quota: 950 MB of 1.0 GB used (95 %)\n! quota is nearly used up (95 %)      entrepot clean"
        in told.stdout
    )
    failed = status(tmp_path, ENTREPOT_QUOTA="/nowhere/quota -w")
    assert (failed.returncode, failed.stdout) == (0, status(tmp_path).stdout)
    assert "warning: the quota command `/nowhere/quota -w` cannot be run" in failed.stderr
