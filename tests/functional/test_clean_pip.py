"""`clean` and `remove` through the command line, on pip caches that are in use, somebody else's, unreadable or read-only."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

import clients
from pip_verbs import entrepot, in_use, made

pytestmark = pytest.mark.skipif(os.name == "nt", reason="written for POSIX")
ROUNDS = 20


@pytest.fixture
def lab(tmp_path):
    lab = made(tmp_path)
    yield lab
    lab.origin.close()


def snapshot(root):
    """Everything about every file but when it was read last."""
    found = {}
    for path in (root, *root.rglob("*")):
        info = path.lstat()
        found[path] = (info.st_mode, info.st_uid, info.st_size, info.st_mtime_ns, info.st_ino)
    return found


def test_no_install_fails_while_the_cache_is_cleaned_again_and_again(lab):
    """Four pips install into directories of their own.

    `python bench/pip_in_use.py` does it a hundred times and more, also with an older pip.
    """
    ended = in_use(lab, ROUNDS, pause_s=0.2)
    assert ended.failed == []
    assert ended.installs >= 4
    assert len(ended.statuses) == ROUNDS
    assert set(ended.statuses) <= {0, 3}, (
        ended.said
    )  # 3: something that `remove` named was in use and stayed
    assert "Freed" in ended.said


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are not shown here")
@pytest.mark.parametrize(
    ("version", "asked"), [("20.3.4", "page"), ("23.2.1", "page"), ("26.3", "wheel")]
)
def test_what_pip_is_asking_its_index_about_stays_until_the_answer_has_come(
    tmp_path, version, asked
):
    """With the entry gone pip would take "not modified" for the page, which is empty.

    Up to 26.1 it asks about every page.
    """
    lab = made(tmp_path, version)
    lab.index.cache_control = "max-age=0" if asked == "wheel" else "max-age=600"
    answer, told = lab.index.answer, []

    def slow(path, accept):
        if path.endswith("/pure/" if asked == "page" else ".whl"):
            told.append(
                entrepot(
                    lab.environ, ["clean", "--all", "-y"], ["remove", "pure", "--kind", asked, "-y"]
                )
            )
        return answer(path, accept)

    try:
        lab.download("pure")
        lab.index.answer = slow
        lab.download("pure")
    finally:
        lab.origin.close()
    ((said, statuses),) = told
    assert "may be asking its index about it" in said
    assert statuses == [0, 3]
    said, (status,) = entrepot(lab.environ, ["remove", "pure", "--kind", asked, "-y"])
    assert (status, "Freed 0 B" in said) == (0, False), said


def test_wheels_just_built_go_only_by_force(lab):
    lab.pip("wheel", "--no-deps", "-w", str(lab.folder / "w"), "source")
    (wheel,) = lab.place.path.rglob("*.whl")
    said, (status,) = entrepot(lab.environ, ["remove", "source", "--built", "-y"])
    assert "made or used less than ten minutes ago (--force takes it)" in said
    assert wheel.exists()
    _, (status,) = entrepot(lab.environ, ["remove", "source", "--built", "-y", "--force"])
    assert status == 0
    assert not wheel.exists()


def disk(root):
    """Bytes of disk below a directory, each inode once, as du counts."""
    paths = [root, *root.rglob("*")] if root.exists() else []
    return sum(
        {(i.st_dev, i.st_ino): i.st_blocks * 512 for i in (p.lstat() for p in paths)}.values()
    )


@pytest.mark.parametrize("where", ["du", "statvfs"])
def test_the_bytes_said_to_be_freed_are_the_file_systems_own_within_one_per_cent(
    lab, where, tmp_path
):
    def measure():
        if where == "du":
            return disk(lab.place.path)
        room = os.statvfs(mount)
        return (room.f_blocks - room.f_bfree) * room.f_frsize

    mount = tmp_path / "mounted"
    with clients.tmpfs(mount) if where == "statvfs" else contextlib.nullcontext():
        if where == "statvfs":
            lab.environ["PIP_CACHE_DIR"] = str(mount / "pip")
        lab.fill()
        assert str(lab.place.path).startswith(str(mount)) == (where == "statvfs")
        os.sync() if where == "du" else None  # some file systems give a file its blocks late
        before = measure()
        (plan, done), statuses = told(
            lab.environ,
            ["clean", "--all", "-n", "--force", "--json"],
            ["clean", "--all", "-y", "--force", "--json"],
        )
        assert statuses == [0, 0]
        given = before - measure()
    assert given > 50_000
    assert abs(done["freed"] - given) <= given / 100, (done["freed"], given)
    assert plan["freed"] == done["freed"]


def told(environ, *commands):
    """The JSON of several commands, and their statuses."""
    said, statuses = entrepot(environ, *commands)
    decoder, found = json.JSONDecoder(), []
    while (at := said.find("{")) >= 0:
        document, end = decoder.raw_decode(said[at:])
        found.append(document)
        said = said[at + end :]
    return found, list(statuses)


EVERY_VERB = (
    ["status"], ["where"], ["list"], ["list", "--json"], ["verify"], ["verify", "--repair"], ["clean", "-n", "--all"],
    ["clean", "--all", "-y"], ["remove", "*", "-y"], ["config", "list"], ["config", "get", "timeout"],
    ["config", "set", "timeout", "30"], ["config", "unset", "timeout"],
)  # fmt: skip
"""What anybody may try; ``--force`` apart."""


@pytest.fixture
def foreign():
    """A home that others may look into, with pip's cache, a damaged entry in it, and a pip.conf.

    All of it root's so far.
    """
    with tempfile.TemporaryDirectory(
        prefix="entrepot-home-"
    ) as folder:  # tmp_path lies below what pytest closes to others
        Path(folder).chmod(0o755)
        lab = made(Path(folder))
        try:
            lab.download("pure")
        finally:
            lab.origin.close()
        wheel = max(lab.place.path.rglob("*.body"), key=lambda path: path.stat().st_size)
        wheel.write_bytes(wheel.read_bytes()[:-9] + b"damaged!!")
        lab.settings = lab.home / ".config/pip/pip.conf"
        lab.settings.parent.mkdir(parents=True)
        lab.settings.write_text("[global]\ntimeout = 60\n")
        yield lab


def answers(environ, root, user=None):
    """What each verb said and its exit status; ``root`` and all below it is the same afterwards."""
    before = snapshot(root)
    said, statuses = entrepot(environ, *EVERY_VERB, user=user)
    assert snapshot(root) == before
    assert len(statuses) == len(EVERY_VERB), said
    parts = re.split(r"^\$ --tool pip (.*)$", said, flags=re.MULTILINE)[1:]
    return {
        verb: (text, status)
        for verb, text, status in zip(parts[::2], parts[1::2], statuses, strict=True)
    }


def assert_nothing_may_be_removed(told, why):
    """The plan says so before anything is tried, and the exit status that nothing was done."""
    for verb, (text, status) in told.items():
        if verb.startswith(("clean", "remove")):
            assert why in text
            assert "Frees" not in text
            assert status == (0 if "-n" in verb else 3), verb


@pytest.mark.parametrize("mode", [0o600, 0o644], ids=oct)
def test_another_user_changes_nothing_and_is_told_why(foreign, other_user, mode):
    """With mode 0600, as pip before 25 makes its files, entries are seen by their size and have no name."""
    for path in foreign.place.path.rglob("*"):
        path.chmod(0o755 if path.is_dir() else mode)
    told = answers(foreign.environ, foreign.home, other_user.uid)
    assert "root (drwxr-xr-x) and" in told["where"][0]
    for verb in ("where", "status"):
        assert "may not write to it: pip neither reads nor writes the cache" in told[verb][0]
    listed = json.loads(told["list --json"][0].partition("->")[0])["entries"]
    assert [(entry["freeable"] > 0, entry["pinned"][:27]) for entry in listed] == [
        (True, "no permission to remove it:")
    ] * 3
    for verb in ("verify", "verify --repair"):
        assert told[verb][0].count("cannot-be-read") == (3 if mode == 0o600 else 0)
        assert ("digest-mismatch" in told[verb][0]) == (mode == 0o644)
        assert told[verb][1] == 1
    if mode == 0o600:
        assert told.pop("remove * -y") == ("\nNothing found: no entry matches *.\n-> 1\n", 1)
    assert_nothing_may_be_removed(told, "no permission to remove it: ")
    assert told["config get timeout"][0].startswith("\n60\n")
    for verb in ("config set timeout 30", "config unset timeout"):
        assert f"{foreign.settings} cannot be written: Permission denied" in told[verb][0]
        assert told[verb][1] == 1


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_root_leaves_alone_what_belongs_to_somebody_else(foreign, other_user):
    """Also nothing of root's is left in the home.

    A state directory, say, that its owner could not write to.
    """
    for path in (foreign.home, *foreign.home.rglob("*")):
        os.chown(path, other_user.uid, other_user.gid)
    told = answers(foreign.environ, foreign.home)
    for verb in ("where", "status"):
        assert (
            f"{foreign.place.path} belongs to {other_user.name}; run pip as that user"
            in told[verb][0]
        )
    assert "pure" in told["list"][0]  # root may read what pip would not use
    assert "digest-mismatch" in told["verify"][0]
    why = f"it belongs to {other_user.name}: run entrepot as that user (sudo -u {other_user.name} -H entrepot ...)"
    assert f"(not repaired: {why})" in told["verify --repair"][0]
    assert_nothing_may_be_removed(told, why)
    for verb in ("config set timeout 30", "config unset timeout"):
        assert (
            f"pip.conf belongs to {other_user.name}\nhint: run entrepot as that user"
            in told[verb][0]
        )
        assert told[verb][1] == 1
    before = snapshot(foreign.home)
    said, statuses = entrepot(foreign.environ, ["clean", "--all", "-y", "--force"])
    assert (statuses, "Frees" in said) == ([3], False), said
    assert snapshot(foreign.home) == before


def test_a_read_only_file_system_is_named(foreign, tmp_path):
    mount = tmp_path / "mounted"
    with clients.tmpfs(mount):
        shutil.copytree(foreign.home, mount / "home", copy_function=shutil.copy2)
        foreign.environ["HOME"] = str(mount / "home")
        remounted = subprocess.run(
            ["mount", "-o", "remount,ro", mount], capture_output=True, text=True, check=False
        )
        if remounted.returncode:
            pytest.skip(f"it cannot be made read-only: {remounted.stderr}")
        told = answers(foreign.environ, mount)
    assert_nothing_may_be_removed(told, "the file system is read-only")
    assert "digest-mismatch" in told["verify"][0]
    assert "(not removed: the file system is read-only)" in told["verify --repair"][0]
    for verb in ("config set timeout 30", "config unset timeout"):
        assert "pip.conf cannot be written: Read-only file system" in told[verb][0]
        assert told[verb][1] == 1
