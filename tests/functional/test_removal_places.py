"""`clean` and `verify --repair` over every tool's cache.

As root in another user's, with mounts and with folders that turned into links.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

import clients
from conda_lab import Lab
from entrepot.ports.tool import Surroundings
from entrepot.tools.pip.tool import tool as pip_tool
from entrepot.tools.uv.tool import UvTool

pytestmark = pytest.mark.skipif(os.name == "nt", reason="written for POSIX")
needs_root = pytest.mark.skipif(
    os.name == "nt" or os.geteuid() != 0, reason="needs to be root: mounts and owners"
)
LATER = 2 * 86_400
NAME = "0123456789abcdef" * 3 + "01234567"
CACHES = {"pip": ".cache/pip", "uv": ".cache/uv", "conda": "pkgs", "entrepot": "store"}


def filled(home):
    """A cache of each tool, with one thing or more that may go."""
    for suffix in ("", ".body"):
        path = home / ".cache/pip/http-v2" / "/".join(NAME[:5]) / f"{NAME}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 5000)
    page = home / ".cache/uv/simple-v16/index/abcdef/demo.rkyv"
    page.parent.mkdir(parents=True)
    page.write_bytes(b"x" * 5000)
    package = home / "pkgs/demo-1.0-0"
    (package / "info").mkdir(parents=True)
    (package / "lib/data").mkdir(parents=True)
    (package / "info/index.json").write_text(
        '{"name": "demo", "version": "1.0", "build": "0", "build_number": 0}'
    )
    (home / "pkgs/urls.txt").touch()
    (home / "pkgs/cache").mkdir()
    (home / "pkgs/cache/0a1b2c3d.json").write_text("no repodata")
    for folder in ("heads", "bodies", "flights"):
        (home / "store" / folder).mkdir(parents=True)
    (home / "store/entrepot-store").write_text("entrepot store, format 1\n")
    (home / "store/flights/put-0000000000000000.tmp").write_bytes(b"x" * 5000)
    os.utime(home / "store/flights/put-0000000000000000.tmp", (1, 1))


def entrepot(home, *words):
    environ = clients.clean_environment(
        home, CONDA_PKGS_DIRS=str(home / "pkgs"), ENTREPOT_STORE=str(home / "store")
    )
    code = f"import sys, time; now = time.time; time.time = lambda: now() + {LATER}\nfrom entrepot.cli.main import main; sys.exit(main(sys.argv[1:]))"
    return clients.run([sys.executable, "-c", code, *words], environ, cwd="/")


def content(home):
    """All of the caches but the store's own book-keeping."""
    paths = [path for cache in CACHES.values() for path in (home / cache).rglob("*")]
    return {
        path: (path.lstat().st_ino, path.lstat().st_mode)
        for path in paths
        if "catalogue" not in path.name
    }


@pytest.fixture
def home():
    with tempfile.TemporaryDirectory(prefix="entrepot-home-") as folder:
        Path(folder).chmod(0o755)
        filled(Path(folder))
        yield Path(folder)


def test_what_may_go_goes_from_every_cache(home):
    """The control: else nothing below would show anything."""
    done = entrepot(home, "clean", "--all", "-y", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    removed = {entry["tool"] for entry in told["removed"]}
    assert removed == set(CACHES), told


@needs_root
@pytest.mark.root
@pytest.mark.parametrize("tool", CACHES)
def test_root_changes_nothing_in_a_cache_of_another_user_and_promises_nothing(
    home, tool, other_user
):
    for path in (home / CACHES[tool], *(home / CACHES[tool]).rglob("*")):
        os.chown(path, other_user.uid, other_user.gid)
    before = content(home)
    why = f"it belongs to {other_user.name}: run entrepot as that user (sudo -u {other_user.name} -H entrepot ...)"
    for force in ([], ["--force"]):
        plan = json.loads(
            entrepot(home, "--tool", tool, "clean", "--all", "-n", "--json", *force).stdout
        )
        assert (plan["freed"], plan["going"]) == (0, [])
        assert {each["reason"] for each in plan["staying"]} == {why}
        done = entrepot(home, "--tool", tool, "clean", "--all", "-y", *force)
        assert (done.returncode, why in done.stdout, "Freed" in done.stdout) == (3, True, False), (
            done
        )
    checked = entrepot(home, "--tool", tool, "verify", "--repair")
    assert "0 repaired" in checked.stdout or checked.returncode == 0
    assert content(home) == before


@needs_root
@pytest.mark.root
def test_each_cache_that_is_roots_is_cleaned_beside_one_that_is_not(home, other_user):
    for path in (home / "pkgs", *(home / "pkgs").rglob("*")):
        os.chown(path, other_user.uid, other_user.gid)
    done = entrepot(home, "clean", "--all", "-y", "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 3
    assert {each["tool"] for each in told["removed"]} == {"pip", "uv", "entrepot"}
    assert {each["entry"]["tool"] for each in told["staying"]} == {"conda"}


MOUNTED = {
    "pip": ".cache/pip/http-v2/0/1",
    "uv": ".cache/uv/simple-v16/index",
    "conda": "pkgs/demo-1.0-0/lib/data",
    "entrepot": "store/flights",
}


@needs_root
@pytest.mark.root
@pytest.mark.parametrize("tool", CACHES)
def test_an_entry_with_a_mount_in_it_stays_and_is_not_promised(home, tool, tmp_path):
    kept = tmp_path / "kept"
    shutil.copytree(home / MOUNTED[tool], kept)
    (kept / "mine").write_text("x")
    made = subprocess.run(
        ["mount", "--bind", kept, home / MOUNTED[tool]], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"nothing can be mounted here: {made.stderr.strip()}")
    try:
        os.utime(kept)
        before = sorted(kept.rglob("*"))
        plan = json.loads(
            entrepot(home, "--tool", tool, "clean", "--all", "-n", "--json", "--force").stdout
        )
        done = entrepot(home, "--tool", tool, "clean", "--all", "-y", "--force")
        assert sorted(kept.rglob("*")) == before
        why = f"{home / MOUNTED[tool]} is a mount point: what is mounted there is not part of the cache"
        assert why in {each["reason"] for each in plan["staying"]}
        assert not [
            each
            for each in plan["going"]
            if each["entry"]["paths"][0].startswith(str(home / MOUNTED[tool]))
        ]
        assert (done.returncode, why in done.stdout) == (3, True), done
    finally:
        subprocess.run(["umount", "--lazy", home / MOUNTED[tool]], check=False)


# -- folders that turn into links between the list and the removal ---------------------------------


def surroundings(home):
    environ = {"PATH": "", "HOME": str(home), "CONDA_PKGS_DIRS": str(home / "pkgs")}
    return Surroundings(environ, home, home, "linux", os.geteuid())


def later():
    return time.time() + LATER


@pytest.mark.parametrize(
    ("tool", "folder"),
    [
        ("pip", ".cache/pip/http-v2"),
        ("pip", ".cache/pip/http-v2/0/1/2/3/4"),
        ("uv", ".cache/uv/simple-v16"),
        ("uv", ".cache/uv/simple-v16/index/abcdef"),
        ("conda", "pkgs/cache"),
    ],
)
def test_a_folder_that_has_become_a_link_since_it_was_listed_is_not_followed(
    home, tool, folder, tmp_path
):
    """What is there now are the very files that were listed, so that no look at them tells."""
    around = surroundings(home)
    made = {
        "pip": lambda: pip_tool(tmp_path / "state", later),
        "uv": lambda: UvTool(tmp_path / "state", later),
    }.get(tool)
    subject = made() if made else Lab(tmp_path / "lab").tool()
    places = [place for place in subject.places(around) if place.exists]
    entries = [entry for place in places for entry in subject.scan(place, around)]
    entries = [
        entry
        for entry in entries
        if any(str(path).startswith(str(home / folder)) for path in entry.paths)
    ]
    assert entries
    outside = tmp_path / "outside"
    (home / folder).rename(outside)
    (home / folder).symlink_to(outside)
    before = sorted(outside.rglob("*"))
    done = subject.remove([replace(entry, block=None) for entry in entries], around, force=True)
    assert sorted(outside.rglob("*")) == before
    assert (done.entries, done.freed, done.files) == ((), 0, 0)
    assert all("is a symbolic link: it is not followed" in why for _, why in done.kept), done.kept


def test_a_trash_that_is_a_link_takes_no_package_out_of_the_cache(tmp_path):
    lab = Lab(tmp_path / "home")
    folder = lab.package("demo")
    entry = lab.entry(folder.name)
    (tmp_path / "outside").mkdir()
    (lab.cache / ".trash").symlink_to(tmp_path / "outside")
    done = lab.tool().remove([entry], lab.around)
    assert [why for _, why in done.kept] == [
        f".trash in {lab.cache}/.trash is a symbolic link: it is not followed"
    ]
    assert list((tmp_path / "outside").iterdir()) == []
    assert folder.exists()


def test_the_lock_of_uv_is_not_made_at_the_end_of_a_link(home, tmp_path):
    uv, around = UvTool(tmp_path / "state", later), surroundings(home)
    (home / ".cache/uv/.lock").symlink_to(tmp_path / "made")
    entries = [
        entry for place in uv.places(around) if place.exists for entry in uv.scan(place, around)
    ]
    done = uv.remove(entries, around)
    assert (done.entries, len(done.kept), (tmp_path / "made").exists()) == ((), len(entries), False)


def test_the_log_of_urls_is_not_written_through_a_link(tmp_path):
    lab = Lab(tmp_path / "home")
    folder = lab.package("demo")
    shutil.rmtree(folder)
    next(lab.cache.glob("*.conda")).unlink()
    entry = next(entry for entry in lab.entries() if entry.key == "urls.txt#stale")
    (lab.cache / "urls.txt").rename(tmp_path / "outside")
    (lab.cache / "urls.txt").symlink_to(tmp_path / "outside")
    before = (tmp_path / "outside").read_bytes()
    done = lab.tool().remove([entry], lab.around)
    assert "urls.txt" in done.kept[0][1]
    assert ((tmp_path / "outside").read_bytes(), (lab.cache / "urls.txt").is_symlink()) == (
        before,
        True,
    )


@pytest.mark.parametrize(
    "theirs", [False, pytest.param(True, marks=[pytest.mark.root, needs_root])]
)
def test_a_package_folder_that_its_user_put_elsewhere_is_cleaned_there(tmp_path, theirs):
    """`pkgs` of rattler's cache as a link of one's own.

    One that somebody else has laid is not followed.
    """
    from entrepot.tools.conda.tool import rattler

    root, elsewhere = tmp_path / "cache", tmp_path / "elsewhere"
    (elsewhere / "demo-1.0-0/info").mkdir(parents=True)
    (elsewhere / "demo-1.0-0/info/index.json").write_text(
        '{"name": "demo", "version": "1.0", "build": "0", "build_number": 0}'
    )
    root.mkdir()
    (root / "pkgs").symlink_to(elsewhere)
    if theirs:
        os.chown(root / "pkgs", 54_321, 54_321, follow_symlinks=False)
    around = Surroundings(
        {"PATH": "", "RATTLER_CACHE_DIR": str(root)}, tmp_path, tmp_path, "linux", os.geteuid()
    )
    tool = rattler(later)
    (place,) = [place for place in tool.places(around) if place.path == root]
    entries = [entry for entry in tool.scan(place, around) if entry.project == "demo"]
    done = tool.remove(entries, around, force=True)
    assert (len(entries), len(done.entries), (elsewhere / "demo-1.0-0").exists()) == (
        1,
        not theirs,
        theirs,
    )
