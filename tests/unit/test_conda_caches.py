"""What lies in a cache, who uses it, and how it goes.

No environment loses a file, and the disk gives back what is said.
"""

from __future__ import annotations

import bz2
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from conda_lab import LATER, Lab, contents
from entrepot.cache_root import Root
from entrepot.caches.removal import Requirement, plan_cleaning
from entrepot.caches.selection import is_unused
from entrepot.ports.tool import Kind, Surroundings
from entrepot.tools.conda.locks import links_packages
from entrepot.tools.conda.scan import FRESH
from entrepot.tools.conda.tool import mamba, rattler
from entrepot.tools.conda.urls import prune


@pytest.fixture
def lab(tmp_path) -> Lab:
    return Lab(tmp_path)


def clean(lab: Lab, **wanted: object):
    """Plan and carry out, as the command does."""
    entries = lab.entries()
    plan = plan_cleaning(entries, Requirement(**wanted), now=time.time() + LATER)
    return plan, lab.tool().remove(plan.entries, lab.around)


def test_a_package_is_listed_with_all_that_its_record_says(lab):
    lab.package("demo")
    unpacked, archive = lab.entry("demo-1.0-h0_0"), lab.entry("demo-1.0-h0_0.conda")
    for entry in (unpacked, archive):
        assert (entry.project, entry.version, entry.filename) == (
            "demo",
            "1.0",
            "demo-1.0-h0_0.conda",
        )
        assert entry.extra["subdir"] == "noarch"
        assert entry.extra["channel"] == "https://channel.test/c/noarch"
        assert entry.extra["build"] == "h0_0"
        assert entry.origin == "https://channel.test/c/noarch/demo-1.0-h0_0.conda"
        assert entry.certainty == "proven"
    assert (unpacked.kind, archive.kind) == (Kind.UNPACKED, Kind.ARCHIVE)


def test_a_token_in_urls_txt_is_masked(lab):
    (lab.cache / "demo-1.0-0.conda").write_bytes(b"x")
    (lab.cache / "urls.txt").write_text(
        "https://me:pw@channel.test/t/tk-secret/c/noarch/demo-1.0-0.conda\n"
    )
    entry = lab.entry("demo-1.0-0.conda")
    assert "secret" not in str(entry)
    assert "pw" not in str(entry)


def part_of_an_archive(lab: Lab, path: Path) -> None:
    """The beginning of the archive that a name is of, as an interrupted download leaves it."""
    extension = ".tar.bz2" if ".tar.bz2" in path.name else ".conda"
    path.write_bytes(lab.channel.add("part", extension=extension).content.whole()[:-4])


def folder_of_a_package(lab: Lab, path: Path) -> None:
    shutil.copytree(lab.package("demo"), path)


def members_of_an_archive(lab: Lab, path: Path) -> None:
    del lab
    path.mkdir()
    (path / "metadata.json").write_text("{}")
    (path / "pkg-demo-1.0-h0_0.tar.zst").touch()


def rattlers_unpacking(lab: Lab, path: Path) -> None:
    (path / "lib").mkdir(parents=True)
    (path / "lib/file").write_text("x")
    (lab.cache / "demo-1.0-h0_0.lock").write_bytes(bytes(40))


def lock_of_a_package(lab: Lab, path: Path) -> None:
    (lab.cache / ".cache.lock").touch()
    path.touch()


def trash(lab: Lab, path: Path) -> None:
    (path / "entrepot-01234567-demo-1.0-h0_0").mkdir(parents=True)
    shutil.move(lab.package("demo"), path / "01234567-89ab-cdef-0123-456789abcdef")


def log_of_ours(lab: Lab, path: Path) -> None:
    lab.package("demo")
    path.write_bytes((lab.cache / "urls.txt").read_bytes())


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("demo-1.0-0.conda.partial", part_of_an_archive),
        ("demo-1.0-0.tar.bz2.partial", part_of_an_archive),
        ("demo-1.0-0.conda.partial", lambda _lab, path: path.touch()),
        ("demo-1.0-0.conda.c~", part_of_an_archive),
        ("demo-1.0-0.conda.conda_trash_1", part_of_an_archive),
        ("demo-1.0-h0_0.c~", folder_of_a_package),
        ("demo-1.0-h0_0.conda_trash", folder_of_a_package),
        (".cph_tmpabcd_123", members_of_an_archive),
        (".demo-1.0-h0_0a1B2c3", rattlers_unpacking),
        (".demo-1.0-h0_0a1B2c3", folder_of_a_package),
        ("gone-1.0-0.lock", lock_of_a_package),
        (".trash", trash),
        (".urls.abcd1234.tmp", log_of_ours),
    ],
)
def test_what_a_tool_left_is_removable_once_it_is_old(lab, name, make):
    make(lab, lab.cache / name)
    entry = lab.entry(name)
    assert (entry.kind, entry.removable_because) == (Kind.TEMP, "stale temporary")
    fresh = next(e for e in lab.entries(ahead=0) if e.key == name)
    assert fresh.blocked
    assert not fresh.removable_because


@pytest.mark.parametrize(
    "name",
    """
    .trash/notes.txt .trash/main.c~ .trash/entrepot-notes .trash/mine/notes.txt .my-note-dir/notes.txt .demo-1.0-h0_0a1B2c3/notes.txt .demo-1.0-h0_0a1B2c3/info/index.json
    data-2024-01/keep data-2024-01.tar.bz2 data-2024-01.conda src/info/x src-1-0/info/x
    src-1-0/info/index.json src-1-0/info/repodata_record.json empty-1-0/ .logs/notes.txt
    .logs/deep/x.log main.c~ notes.c~/notes.txt notes.trash data-2024-01.tar.bz2.c~ data-2024-01.tar.bz2.partial data-2024-01.conda.partial film.mkv.partial
    my-own-thing.lock .cph_tmpabcd_123/notes.txt .cph_tmpabcd_123 notes.conda_trash notes.conda_trash/notes .urls.mine.tmp
    demo-1.0-h0_0-backup/info/index.json cache/20240101.json.orig cache/notes.json
    cache/shards/notes.txt cache/deadbeef.json.notes cache/repodata_shards.db.mine
    cache/run-exports/notes.txt
    """.split(),
)
@pytest.mark.parametrize("everything", [False, True])
def test_what_only_has_a_name_like_a_tools_stays_and_is_not_promised(lab, name, everything):
    lab.package("demo")
    path = lab.cache / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith("/"):
        path.mkdir()
    else:
        path.write_bytes(bz2.compress(b"mine") if "tar.bz2" in name else b'{"name": "mine"}')
        if (beside := lab.cache / "data-2024-01").is_dir():
            (lab.cache / f"{beside.name}.tar.bz2").write_bytes(b"backup")
    before = path.read_bytes() if path.is_file() else b""
    plan, _ = clean(lab, everything=everything)
    assert not [
        e for e in plan.entries if any(path == each or each in path.parents for each in e.paths)
    ]
    assert path.exists()
    assert (path.read_bytes() if path.is_file() else b"") == before


@pytest.mark.parametrize(
    "text",
    [
        "https://index.test/files/a.zip\n",
        "https://index.test/data-2024-01.tar.bz2\n",
        "my own notes\n",
    ],
)
def test_no_line_of_urls_txt_goes_that_is_not_condas(lab, text):
    urls = lab.cache / "urls.txt"
    lab.package("demo")
    mine = urls.read_text() + text
    urls.write_text(mine + "https://channel.test/c/noarch/gone-1-0.conda\n")
    clean(lab)
    assert urls.read_text() == mine


def test_a_folder_of_unknown_layout_is_a_size_and_never_goes(lab):
    (lab.cache / "mine").mkdir()
    (lab.cache / "mine/file").write_text("x" * 5000)
    entry = lab.entry("mine")
    assert entry.blocked
    assert entry.size == 5000
    lab.tool().remove([entry], lab.around, force=True)
    assert (lab.cache / "mine/file").exists()


def test_lines_of_urls_txt_that_nothing_needs_are_removable_and_pruned(lab):
    lab.package("demo")
    urls = lab.cache / "urls.txt"
    right = urls.read_text()
    urls.write_text(f"https://channel.test/c/noarch/gone-1-0.conda\n{right}{right}")
    assert lab.entry("urls.txt#stale").extra["lines"] == "2"
    clean(lab)
    assert urls.read_text() == right
    assert [e for e in lab.entries() if e.removable_because] == []


def test_an_unfinished_last_line_is_not_pruned_away(lab):
    urls = lab.cache / "urls.txt"
    urls.write_text("https://channel.test/c/noarch/gone-1-0.conda\nhttps://channel.te")
    with Root(lab.cache) as root, root.folder(lab.cache) as folder:
        assert prune(folder, []) == 0
    assert urls.read_text().endswith("channel.te")


def test_removing_a_package_drops_its_line(lab):
    lab.package("demo")
    lab.package("other")
    lab.tool().remove([e for e in lab.entries() if e.project == "demo"], lab.around)
    assert "demo" not in (lab.cache / "urls.txt").read_text()
    assert "other" in (lab.cache / "urls.txt").read_text()
    assert not (lab.cache / ".trash").exists()


@pytest.mark.parametrize("registered", [True, False])
def test_a_hard_linked_package_is_in_use_even_when_nobody_knows_the_environment(lab, registered):
    used, unused = lab.package("demo"), lab.package("other")
    lab.environment(lab.home / "env", [used], "hard", registered=registered)
    by_key = {e.key: e for e in lab.entries()}
    assert by_key[used.name].used_by
    assert is_unused(by_key[unused.name])
    assert by_key[used.name].freeable < by_key[unused.name].freeable


def test_packages_that_share_files_among_themselves_are_unused(lab):
    one, two = lab.package("demo"), lab.package("other")
    (two / "share/other/data.bin").unlink()
    os.link(one / "share/demo/data.bin", two / "share/other/data.bin")
    assert all(is_unused(e) for e in lab.entries() if e.kind is Kind.UNPACKED)


def test_files_shared_with_another_known_cache_are_no_use(lab):
    one = lab.package("demo")
    other = lab.home / ".conda/pkgs/demo-1.0-h0_0/info"
    other.mkdir(parents=True)
    os.link(one / "info/index.json", other / "index.json")
    assert is_unused(lab.entry(one.name))


def nested(lab, name: str) -> Path:
    """A package in a folder of its own of mamba's nested layout, which lies in conda's cache."""
    leaf = lab.cache / f"https/{name}.test/noarch"
    leaf.mkdir(parents=True)
    (leaf / "urls.txt").touch()
    return lab.package(name).rename(leaf / f"{name}-1.0-h0_0")


@pytest.mark.parametrize("shared", [True, False])
def test_a_link_is_counted_once_where_folders_lie_in_each_other(lab, shared):
    """A package of conda's asks first, so all is counted before mamba's folders are listed."""
    used = [lab.package("flat"), nested(lab, "one"), nested(lab, "two")]
    unused = [lab.package("free"), nested(lab, "three")]
    lab.environment(lab.home / "unknown", used, "hard", registered=False)
    around = lab.around.for_one_look() if shared else lab.around
    tools = (lab.tool(), mamba(now=lab.tool()._now))
    entries = [
        entry
        for tool in tools
        for place in tool.places(around)
        for entry in tool.scan(place, around)
    ]
    found = {entry.paths[0]: is_unused(entry) for entry in entries if entry.kind is Kind.UNPACKED}
    assert found == {**dict.fromkeys(used, False), **dict.fromkeys(unused, True)}


def test_in_one_look_each_folder_of_each_package_is_opened_once(lab, monkeypatch):
    folders = [lab.package("flat"), nested(lab, "one"), nested(lab, "two")]
    lab.environment(lab.home / "unknown", folders, "hard", registered=False)
    prefix = lab.environment(lab.home / "known", [lab.package("other")], "copy")
    opened, scandir = Counter(), os.scandir

    def counting(path="."):
        opened[os.fspath(path)] += 1
        return scandir(path)

    around = lab.around.for_one_look()
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", counting)
        for tool in (lab.tool(), mamba(now=lab.tool()._now), rattler()):
            for place in tool.places(around):
                list(tool.scan(place, around))
    assert {opened[str(folder)] for folder in folders} == {1}
    assert opened[str(prefix / "conda-meta")] == 1


def test_without_a_look_in_common_each_scan_sees_what_is_there_now(lab):
    folder = lab.package("demo")
    assert is_unused(lab.entry(folder.name))
    lab.environment(lab.home / "unknown", [folder], "hard", registered=False)
    assert not is_unused(lab.entry(folder.name))


def test_what_an_environment_links_to_symbolically_may_not_go(lab):
    folder = lab.package("demo")
    env = lab.environment(lab.home / "env", [folder], "symbolic")
    entry = lab.entry(folder.name)
    assert str(env) in entry.blocked
    lab.tool().remove([entry], lab.around, force=True)
    assert folder.exists()


def test_a_symbolic_link_without_a_record_is_seen_before_anything_is_removed(lab):
    folder = lab.package("demo")
    env = lab.environment(lab.home / "env", [folder], "symbolic")
    (env / "conda-meta/demo-1.0-h0_0.json").unlink()
    before = contents(env)
    removed = lab.tool().remove([lab.entry(folder.name)], lab.around)
    assert removed.kept
    assert contents(env) == before


def test_links_inside_a_package_do_not_block_it_however_the_root_is_reached(lab):
    folder = lab.package("demo")
    (folder / "share/demo/short").symlink_to("data.bin")
    (lab.home / "other-name").symlink_to(lab.root)
    (lab.home / ".conda").mkdir()
    (lab.home / ".conda/environments.txt").write_text(f"{lab.home}/other-name\n")
    entry = lab.entry(folder.name)
    assert not entry.blocked
    assert lab.tool().remove([entry], lab.around).entries


def test_an_environment_inside_another_is_looked_at(lab):
    folder = lab.package("demo")
    lab.environment(lab.root / "envs/inner", [folder], "symbolic")
    (lab.root / "envs/inner/conda-meta/demo-1.0-h0_0.json").unlink()
    assert lab.tool().remove([lab.entry(folder.name)], lab.around).kept


def test_clean_unused_and_to_leave_every_file_of_every_environment(lab):
    packages = [lab.package(f"demo{n}") for n in range(6)]
    linked, symbolic, copied = packages[0], packages[1], packages[2]
    prefixes = [
        lab.environment(lab.home / "unregistered", [linked], "hard", registered=False),
        lab.environment(lab.home / "symbolic", [symbolic], "symbolic"),
        lab.environment(lab.home / "copied", [copied], "copy"),
    ]
    before = {prefix: contents(prefix) for prefix in prefixes}
    clean(lab, unused=True)
    assert sorted(p.name for p in lab.cache.glob("demo*_0")) == sorted(
        p.name for p in (linked, symbolic, copied)
    )
    clean(lab, to_bytes=0)
    assert symbolic.exists()
    clean(lab, everything=True)
    assert {prefix: contents(prefix) for prefix in prefixes} == before


def test_the_plan_says_what_the_removal_frees(lab):
    folder = lab.package("demo", size=300_000)
    lab.package("other", size=200_000)
    lab.environment(lab.home / "env", [folder], "hard", registered=False)
    urls = (lab.cache / "urls.txt").stat().st_blocks * 512
    plan, removed = clean(lab, everything=True)
    assert not removed.kept
    assert 0 <= removed.freed - plan.freed <= urls, (
        "but for the lines of urls.txt that went with them"
    )


def test_keep_latest_takes_archives_and_unpacked_packages_of_older_versions(lab):
    for version in ("1.9", "1.10", "2.0"):
        lab.package("demo", version)
    lab.package("other", "0.1")
    clean(lab, keep_latest=2)
    left = {(e.project, e.version, e.kind) for e in lab.entries() if e.project}
    assert left == {
        (name, version, kind)
        for name, version in (("demo", "1.10"), ("demo", "2.0"), ("other", "0.1"))
        for kind in (Kind.ARCHIVE, Kind.UNPACKED)
    }
    assert "demo-1.9" not in (lab.cache / "urls.txt").read_text()


def test_a_fresh_package_stays_unless_it_is_forced(lab):
    folder = lab.package("demo")
    entry = next(e for e in lab.entries(ahead=0) if e.key == folder.name)
    assert entry.block == FRESH
    assert lab.tool().remove([entry], lab.around).kept
    assert lab.tool().remove([entry], lab.around, force=True).entries
    assert not folder.exists()


def test_what_somebody_begins_to_link_to_is_put_back(lab):
    folder = lab.package("demo")
    entry = lab.entry(folder.name)
    os.link(folder / "share/demo/data.bin", lab.home / "linked")
    removed = lab.tool().remove([entry], lab.around)
    assert [why for _, why in removed.kept] == ["an installation began to link to it"]
    assert (folder / "share/demo/data.bin").exists()


def test_what_was_replaced_since_the_listing_stays(lab):
    folder = lab.package("demo")
    entry = lab.entry(folder.name)
    (folder / "new").touch()
    os.utime(folder, ns=(1, 1))
    assert lab.tool().remove([entry], lab.around).kept


_HOLD = """
import fcntl, os, sys
file = os.open(sys.argv[1], os.O_RDWR)
fcntl.lockf(file, fcntl.LOCK_EX, 1, 21)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("name", ["demo-1.0-0.conda.partial", "cache/0123abcd.info.json"])
def test_a_file_whose_writer_holds_the_lock_stays(lab, name):
    path = lab.cache / name
    path.parent.mkdir(exist_ok=True)
    if name.endswith(".partial"):
        part_of_an_archive(lab, path)
    else:
        path.write_text(json.dumps({"url": "https://channel.test/c/noarch"}))
    entry = next(e for e in lab.entries() if path in e.paths)
    assert not entry.blocked
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout.readline() == b"held\n"
        assert next(e for e in lab.entries() if path in e.paths).blocked
        removed = lab.tool().remove([entry], lab.around)
        writer.stdin.close()
    assert [why for _, why in removed.kept] == ["being written"]
    assert lab.tool().remove([entry], lab.around).entries
    assert not path.exists()


def test_while_rattler_installs_nothing_goes(lab):
    folder = lab.package("demo")
    (lab.cache / ".cache.lock").touch()
    entry = lab.entry(folder.name)
    with (lab.cache / ".cache.lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert lab.tool().remove([entry], lab.around).kept
    assert lab.tool().remove([entry], lab.around).entries


def test_the_index_cache_is_listed_by_channel(lab):
    (lab.cache / "cache").mkdir()
    (lab.cache / "cache/0123abcd.json").write_text("{}")
    state = {
        "url": "https://channel.test/c/noarch",
        "cache_control": "max-age=60",
        "refresh_ns": time.time_ns(),
    }
    (lab.cache / "cache/0123abcd.info.json").write_text(json.dumps(state))
    entry = lab.entry("cache/0123abcd")
    assert (entry.kind, entry.origin, entry.state, entry.files) == (
        Kind.PAGE,
        "https://channel.test/c/noarch",
        "stale",
        2,
    )
    assert next(e for e in lab.entries(ahead=0) if e.kind is Kind.PAGE).state == "fresh"


def test_the_shards_of_a_cache_of_rattlers_that_is_called_cache_go(tmp_path):
    shards = tmp_path / ".cache/rattler/cache/shards-v1"
    shards.mkdir(parents=True)
    (shards / f"{'a' * 64}.msgpack").touch()
    around, tool = Surroundings({"PATH": ""}, tmp_path, tmp_path), rattler()
    (place,) = tool.places(around)
    assert tool.remove(list(tool.scan(place, around)), around).entries
    assert not shards.exists()


@pytest.mark.root
@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="needs root to mount a tmpfs"
)
def test_an_environment_on_another_file_system_keeps_its_files_and_the_freed_bytes_are_the_disks(
    tmp_path,
):
    with mounted(tmp_path / "home") as home, mounted(tmp_path / "far") as far:
        lab = Lab(home / "me")
        packages = [lab.package(f"demo{n}", size=500_000) for n in range(4)]
        prefixes = [
            lab.environment(far / "env", [packages[0]], "copy"),
            lab.environment(home / "hard", [packages[1]], "hard", registered=False),
        ]
        before = [contents(prefix) for prefix in prefixes]
        was = free(home)
        _plan, removed = clean(lab, everything=True)
        assert not removed.kept
        assert removed.freed == free(home) - was
        assert [contents(prefix) for prefix in prefixes] == before


def free(path: Path) -> int:
    about = os.statvfs(path)
    return about.f_bfree * about.f_frsize


class mounted:  # noqa: N801
    """A small tmpfs for the length of a block."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Path:
        self._path.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", self._path],
            capture_output=True,
            check=False,
        )
        if done.returncode:
            pytest.skip("a tmpfs cannot be mounted here")
        return self._path

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "-l", self._path], check=False)


def test_the_trash_of_a_killed_removal_is_removable(lab):
    (lab.cache / ".trash/entrepot-x/info").mkdir(parents=True)
    entry = lab.entry(".trash")
    assert entry.removable_because == "stale temporary"
    assert lab.tool().remove([entry], lab.around).entries
    assert not (lab.cache / ".trash").exists()


def test_a_read_only_folder_inside_a_package_is_removed_too():
    with tempfile.TemporaryDirectory() as place:
        lab = Lab(Path(place) / "me")
        folder = lab.package("demo")
        (folder / "share/demo").chmod(0o555)
        assert lab.tool().remove([lab.entry(folder.name)], lab.around).entries
        assert not folder.exists()


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")
def test_while_conda_installs_its_packages_stay(lab, tmp_path):
    folder = lab.package("demo")
    mine = replace(lab.around, euid=os.geteuid())
    (tmp_path / "conda").write_text("import sys; print(1, flush=True); sys.stdin.read()")
    listed = [e for e in lab.entries() if e.kind in (Kind.UNPACKED, Kind.ARCHIVE)]
    command = [sys.executable, tmp_path / "conda", "create", "-n", "x"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as conda:
        conda.stdout.readline()
        assert all(
            "is running" in e.blocked
            for e in lab.tool().scan(lab.place(), mine)
            if e.project == "demo"
        )
        assert [entry for entry, _ in lab.tool().remove(listed, mine).kept] == listed
        assert lab.tool().remove(listed, mine, force=True).entries
        conda.stdin.close()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("conda create -n x", True),
        ("/opt/conda/bin/python /opt/conda/bin/conda install numpy", True),
        ("micromamba -y install x", True),
        ("python -m conda update --all", True),
        ("conda info", False),
        ("conda shell.posix activate base", False),
        ("python train.py conda create", False),
        ("", False),
    ],
)
def test_which_command_lines_link_packages(words, expected):
    assert links_packages(words.split()) is expected
