"""Quotas beside the caches: real ones of a file system made for it, and a command's word."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from entrepot.tools._shared import quota as quota_module
from entrepot.tools._shared.quota import Quota, QuotaUnknown, read, told_by, told_by_kernel

ANA = 54_321
QUOTACTL_FD, SET_QUOTA, LIMITS = 443, 0x800008 << 8, 5


def set_limits(folder: Path, kind: int, number: int, *, blocks: int, files: int) -> None:
    """What ``setquota`` does."""
    block = struct.pack("9Q", blocks, 0, 0, files, 0, 0, 0, 0, LIMITS)
    opened = os.open(folder, os.O_RDONLY)
    try:
        call = ctypes.CDLL(None, use_errno=True).syscall
        if call(QUOTACTL_FD, opened, SET_QUOTA | kind, number, block):
            pytest.skip(f"limits cannot be set here: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(opened)


@pytest.fixture
def anas_home(tmp_path):
    """A file system with quotas, and in it the home of a user with 20 MB and 50 files."""
    if os.geteuid() != 0 or not sys.platform.startswith("linux") or not shutil.which("mkfs.ext4"):
        pytest.skip("needs root, Linux and mkfs.ext4, to make a file system with quotas")
    image, mount = tmp_path / "image", tmp_path / "disk"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-O", "quota", str(image)], check=True)
    done = subprocess.run(
        ["mount", "-o", "loop,usrquota,grpquota", str(image), str(mount)],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("this kernel keeps no quotas (CONFIG_QFMT_V2), or nothing can be mounted here")
    try:
        ana = mount / "ana"
        ana.mkdir()
        set_limits(mount, 0, ANA, blocks=20_000, files=50)
        yield ana
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def fill(home: Path, size: int, group: int = ANA) -> None:
    root = home / ".cache" / "pip" / "http-v2"
    root.mkdir(parents=True)
    (root / "body").write_bytes(os.urandom(size))
    for path in (home, *home.rglob("*")):
        os.chown(path, ANA, group)
    os.sync()


def status(home: Path, *more: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "entrepot", "status", *more],
        env={"PATH": "/usr/bin:/bin", "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1", **environ},
        user=ANA,
        group=ANA,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_kernel_tells_what_a_user_may_keep(anas_home):
    fill(anas_home, 10_000_000)
    [quota] = told_by_kernel([anas_home], ANA)
    assert (quota.whose, quota.limit, quota.files_limit) == ("user", 20_480_000, 50)
    assert quota.files == 5
    assert 10_000_000 <= quota.used < 10_100_000
    assert told_by_kernel([anas_home], ANA + 1) == [], "no limit, no line"
    set_limits(anas_home, 1, ANA, blocks=30_000, files=0)
    assert [q.whose for q in told_by_kernel([anas_home], ANA)] == ["user", "group"]


def test_status_shows_the_quota_and_warns_when_it_is_nearly_used_up(anas_home, tmp_path):
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        if not os.stat(folder).st_mode & 0o001:
            folder.chmod(0o711)
    fill(anas_home, 19_000_000)
    done = status(anas_home)
    if "No module named" in done.stderr:
        pytest.skip("another user cannot read this checkout")
    assert done.returncode == 0, done.stderr
    assert "Quota of ~: 19 MB of 20 MB used (92 %), 5 of 50 files" in done.stdout
    assert "! quota of ~ is nearly used up (93 %)      entrepot clean" in done.stdout
    said = json.loads(status(anas_home, "--json").stdout)
    assert said["quotas"][0]["limit"] == 20_480_000
    assert "quota-nearly-full" in [warning["id"] for warning in said["warnings"]]


def test_where_no_quotas_are_kept_the_kernel_tells_nothing(tmp_path):
    assert told_by_kernel([Path("/proc"), tmp_path / "nowhere"], os.geteuid()) == []
    assert quota_module._ask(tmp_path, "user", os.geteuid()) is None


def test_the_answer_of_the_kernel_is_read_as_its_manual_has_it(tmp_path, monkeypatch):
    """The only way where no file system has quotas.

    The other tests ask a real one where there can be one.
    """
    asked = []

    class Kernel:
        def syscall(self, number, _opened, command, who, answer):
            asked.append((number, command, who))
            ctypes.memmove(
                answer, struct.pack("8QI", 50_000, 40_000, 12_345_678, 0, 900, 17, 0, 0, 63), 68
            )
            return 0

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Kernel())
    told = quota_module._ask(tmp_path, "group", 77)
    assert asked == [(QUOTACTL_FD, 0x800007 << 8 | 1, 77)]
    assert told == Quota(str(tmp_path), "group", 12_345_678, 51_200_000, 17, 900)


def test_file_systems_with_quotas_are_told_by_their_mount_options(tmp_path):
    table = tmp_path / "mountinfo"
    table.write_text(
        "1 0 8:1 / / rw,relatime - ext4 /dev/sda1 rw,quota,usrquota\n"
        "2 1 8:2 / /data rw,relatime shared:1 - xfs /dev/sda2 rw,attr2,noquota\n"
        "3 1 8:3 / /work rw,relatime - xfs /dev/sda3 rw,usrquota,prjquota\n"
    )
    assert quota_module._devices_with_quotas(str(table)) == {os.makedev(8, 1), os.makedev(8, 3)}


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
    def run(command: str) -> subprocess.CompletedProcess[str]:
        environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "ENTREPOT_QUOTA": command}
        return subprocess.run(
            [sys.executable, "-m", "entrepot"],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )

    told = run("printf '950000000 1000000000 5 0'")
    assert (
        "Quota: 950 MB of 1.0 GB used (95 %)\n! quota is nearly used up (95 %)      entrepot clean"
        in told.stdout
    )
    failed = run("/nowhere/quota -w")
    assert (failed.returncode, failed.stdout) == (0, run("").stdout)
    assert "warning: the quota command `/nowhere/quota -w` cannot be run" in failed.stderr
