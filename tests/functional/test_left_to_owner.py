"""Root with another user's HOME, as ``sudo`` without ``-H`` leaves it.

Nothing is left there that the user cannot read and change.
"""

import os
import sys
import tempfile
from pathlib import Path

import pytest

import clients
from entrepot.testing.origin import Origin
from running import Desk

VERBS = (
    ["list"],
    ["status"],
    ["config", "set", "timeout", "20s"],
    ["config", "--tool", "uv", "set", "offline", "true"],
    ["config", "--tool", "conda", "set", "ssl_verify", "false"],
)


def theirs(desk: Desk, user: clients.OtherUser) -> list[str]:
    """What lies in the user's home and is not the user's, with its owner."""
    found = {path: path.lstat() for path in desk.home.rglob("*")}
    return [
        f"{path} {about.st_uid}:{about.st_gid}"
        for path, about in found.items()
        if about.st_uid != user.uid
    ]


@pytest.mark.root
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="useradd and its ways are Linux's")
def test_what_root_makes_in_another_users_home_is_that_users(other_user):
    with (
        tempfile.TemporaryDirectory() as place,
        Origin(name="index.test", tls=True) as origin,
    ):  # pytest's folders are root's alone
        Path(place).chmod(0o755)
        origin.add_project("demo")
        desk = Desk.under(Path(place, "desk"), origin)
        os.chown(desk.home, other_user.uid, other_user.gid)
        os.chown(desk.project, other_user.uid, other_user.gid)
        command = [sys.executable, "-m", "entrepot"]
        fetch = [
            *command,
            "run",
            "--host",
            "index.test",
            "--",
            *clients.curl(),
            "-sf",
            "https://index.test/simple/demo/",
        ]
        for words in ([*command, *verb] for verb in VERBS):
            done = clients.run(words, desk.environ, cwd=desk.project)
            assert done.returncode in (0, 3), done.stderr
        done = clients.run(fetch, desk.environ, cwd=desk.project)
        assert done.returncode == 0, done.stderr
        made = {path.name for path in desk.home.rglob("*")}
        assert {
            "catalogue.sqlite",
            "boot",
            "settings.jsonl",
            "config.toml",
            "uv.toml",
            "heads",
            "bodies",
            "users",
        } <= made
        assert theirs(desk, other_user) == []
        assert (
            Path(desk.home, ".local/state/entrepot/settings.jsonl").stat().st_mode & 0o777 == 0o600
        )
        assert Path(desk.home, ".cache/entrepot/catalogue.sqlite").stat().st_mode & 0o777 == 0o600
        # and the user goes on with it
        as_user = [sys.executable, "-c", clients.AS_USER, str(other_user.uid)]
        for verb in (
            ["list"],
            ["config", "--undo"],
            ["config", "--tool", "uv", "--undo"],
            ["clean", "--all", "-y", "--tool", "entrepot"],
        ):
            done = clients.run([*as_user, *verb], desk.environ, cwd=desk.project)
            assert (done.returncode, "warning" in done.stderr) == (0, False), (
                f"{verb}: {done.stdout}{done.stderr}"
            )
        assert not [path for path in Path(desk.store, "bodies").rglob("*") if path.is_file()]
        assert not Path(desk.home, ".config/entrepot/config.toml").exists()
        assert theirs(desk, other_user) == []
