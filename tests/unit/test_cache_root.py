"""Removing by descriptor.

Links, mounts, deep trees, whose cache it is, and what the disk gets back.
"""

import ast
import os
import resource
import subprocess
from pathlib import Path

import pytest

from entrepot import cache_root as removal
from entrepot.cache_root import Refused, Root, mount_points, other_owner

pytestmark = pytest.mark.skipif(not removal.BY_DESCRIPTOR, reason="the system has no openat")
needs_root = pytest.mark.skipif(
    os.name == "nt" or os.geteuid() != 0, reason="needs to be root: mounts and owners"
)
THEIRS = 54_321
"""A user id; nobody needs to have it."""
SOURCE = Path(removal.__file__).parent


@pytest.fixture
def root(tmp_path):
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


@pytest.fixture
def outside(tmp_path):
    folder = tmp_path / "outside/folder"
    folder.mkdir(parents=True)
    (folder / "file").write_text("x")
    return tmp_path / "outside"


@pytest.fixture
def bind():
    """Mounts a directory at another; unmounted afterwards."""
    done = []

    def mounted(what, where):
        made = subprocess.run(
            ["mount", "--bind", what, where], capture_output=True, text=True, check=False
        )
        if made.returncode:
            pytest.skip(f"nothing can be mounted here: {made.stderr.strip()}")
        done.append(where)

    yield mounted
    for where in done:
        subprocess.run(["umount", "--lazy", where], check=False, capture_output=True)


def test_a_tree_goes_and_what_its_links_lead_to_stays(root, outside):
    (root / "a/b").mkdir(parents=True)
    (root / "a/b/link").symlink_to(outside)
    (root / "a/hard").hardlink_to(outside / "folder/file")
    os.mkfifo(root / "a/pipe")
    with Root(root) as cache:
        cache.remove(root / "a")
    assert list(root.iterdir()) == []
    assert (outside / "folder/file").read_text() == "x"


@pytest.mark.parametrize("act", ["remove", "unlink", "rmdir", "move", "make", "replace", "open"])
def test_no_way_leads_through_a_link_in_the_cache(root, outside, act):
    (root / "link").symlink_to(outside)
    (outside / "empty").mkdir()
    acts = {
        "remove": lambda cache: cache.remove(root / "link/folder"),
        "unlink": lambda cache: cache.unlink(root / "link/folder/file"),
        "rmdir": lambda cache: cache.rmdir(root / "link/empty"),
        "move": lambda cache: cache.move(root / "link/folder", root / "folder"),
        "make": lambda cache: cache.make_folder(root / "link/new"),
        "replace": lambda cache: cache.folder(root / "link").__enter__(),
        "open": lambda cache: cache.folder(root / "link/folder").__enter__(),
    }
    before = sorted(outside.rglob("*"))
    with (
        Root(root) as cache,
        pytest.raises(Refused, match=r"link in .* is a symbolic link: it is not followed"),
    ):
        acts[act](cache)
    assert sorted(outside.rglob("*")) == before


@pytest.mark.parametrize(
    "path", ["../outside/folder", "a/../../outside/folder", "../cache-of-others/x", "a/./b"]
)
def test_a_path_that_is_not_plainly_below_the_root_is_refused(root, outside, path):
    (root / "a").mkdir()
    with Root(root) as cache, pytest.raises(Refused, match="lies outside"):
        cache.remove(f"{root}/{path}")
    assert (outside / "folder/file").exists()


def test_the_root_itself_may_be_reached_through_a_link_and_later_changes_of_it_do_not_matter(
    root, outside
):
    link = root.parent / "link"
    link.symlink_to(root)
    (root / "folder").mkdir()
    with Root(link) as cache:
        link.unlink()
        link.symlink_to(outside)
        cache.remove(link / "folder")
    assert not (root / "folder").exists()
    assert (outside / "folder/file").exists()


def test_two_thousand_levels_go_with_a_few_descriptors(root):
    depth, at = 2_000, os.open(root, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=at)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=at))
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    was = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/dev/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(64, used + 20), was[1]))
    try:
        with Root(root) as cache:
            cache.remove(root / "d")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, was)
    assert os.listdir(root) == ["file"]
    assert (cache.freed.files, len(os.listdir("/dev/fd"))) == (depth - 1, used)


def test_what_is_freed_is_what_the_disk_gets_back(root, tmp_path):
    (root / "a/b").mkdir(parents=True)
    for name, size in (("a/one", 9_000), ("a/b/two", 50_000), ("a/kept", 70_000)):
        (root / name).write_bytes(b"x" * size)
    (root / "a/again").hardlink_to(root / "a/one")
    (tmp_path / "kept").hardlink_to(root / "a/kept")
    paths = [root / name for name in ("a", "a/b", "a/one", "a/b/two")]
    expected = sum(path.lstat().st_blocks * 512 for path in paths)
    with Root(root) as cache:
        cache.remove(root / "a")
        cache.remove(root / "a")  # gone: counts nothing
        cache.unlink(root / "a/one")
    assert (cache.freed.bytes, cache.freed.files) == (expected, 4)


def test_a_folder_that_is_moved_away_while_it_is_emptied_ends_the_removal(
    root, outside, monkeypatch
):
    (root / "a/b/c").mkdir(parents=True)
    (root / "a/rest").mkdir()
    (root / "a/b/c/file").touch()
    unlink = removal._unlink

    def moved(name, *rest):
        unlink(name, *rest)
        (root / "a/b/c").rename(outside / "c")

    monkeypatch.setattr(removal, "_unlink", moved)
    with Root(root) as cache, pytest.raises(Refused, match="was moved while it was removed"):
        cache.remove(root / "a")
    assert sorted(os.listdir(outside)) == ["c", "folder"]
    assert (outside / "folder/file").exists()


@needs_root
@pytest.mark.root
@pytest.mark.parametrize("where", ["a", "a/mount", "a/b c/mount"])
def test_what_is_mounted_in_a_cache_stays_with_what_it_lies_in(root, outside, bind, where):
    (root / where).mkdir(parents=True)
    (root / "a/other").mkdir(exist_ok=True)
    bind(outside, root / where)
    link = root.parent / "link"
    link.symlink_to(root)
    assert mount_points(link) == [str(link / where)]
    before = sorted(root.rglob("*"))
    with Root(root) as cache:
        for act in (lambda: cache.remove(root / "a"), lambda: cache.move(root / "a", root / "b")):
            with pytest.raises(Refused, match=f"{where} is a mount point"):
                act()
        with pytest.raises(Refused, match="lies in another mount"):
            cache.remove(root / where / "folder/file")
    assert sorted(root.rglob("*")) == before
    assert (cache.freed.files, cache.freed.bytes) == (0, 0)


@needs_root
@pytest.mark.root
@pytest.mark.parametrize("proc", [True, False], ids=["by mount", "by device"])
def test_a_mount_that_the_table_does_not_show_is_not_entered(
    root, outside, bind, proc, monkeypatch
):
    (root / "a/b").mkdir(parents=True)
    if proc:
        bind(outside, root / "a/b")
    else:
        monkeypatch.setattr(removal, "_mount_of", lambda fd: os.fstat(fd).st_dev)
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "x", root / "a/b"], capture_output=True, check=False
        )
        if made.returncode:
            pytest.skip("nothing can be mounted here")
        (root / "a/b/file").touch()
    monkeypatch.setattr(removal, "_mounted_at", lambda _real: [])
    try:
        with Root(root) as cache, pytest.raises(Refused, match="lies in another mount"):
            cache.remove(root / "a")
        assert os.listdir(root / "a/b")
    finally:
        if not proc:
            subprocess.run(["umount", "--lazy", root / "a/b"], check=False)


@needs_root
@pytest.mark.root
@pytest.mark.parametrize("what", ["cache", "link", "folder above"])
def test_root_opens_no_cache_of_another_user(root, tmp_path, what):
    path = root
    if what == "cache":
        os.chown(root, THEIRS, THEIRS)
    else:
        (tmp_path / "home").mkdir()
        link = tmp_path / "home/link"
        link.symlink_to(root if what == "link" else tmp_path)
        os.chown(link, THEIRS, THEIRS, follow_symlinks=False)
        path = link if what == "link" else link / root.name
    with pytest.raises(
        Refused,
        match=rf"it belongs to uid {THEIRS}: run entrepot as that user \(sudo -u '#{THEIRS}'",
    ):
        Root(path)
    assert other_owner(path, 0) == THEIRS
    assert other_owner(path / "not/there", 0) == THEIRS
    assert other_owner(path, THEIRS) == 0


@needs_root
@pytest.mark.root
def test_a_cache_that_changes_hands_after_it_was_looked_at_is_not_opened(root, monkeypatch):
    os.chown(root, THEIRS, THEIRS)
    monkeypatch.setattr(removal, "foreign", lambda _path, _euid: "")
    used = len(os.listdir("/dev/fd"))
    with pytest.raises(Refused, match="it belongs to"):
        Root(root)
    assert len(os.listdir("/dev/fd")) == used


def test_a_file_is_replaced_in_one_step_with_its_mode(root):
    (root / "file").write_text("old")
    (root / "file").chmod(0o640)
    with Root(root) as cache, cache.folder(root) as folder:
        folder.replace("file", b"new", temporary=".x{}.tmp")
        folder.replace("fresh", b"new", temporary=".x{}.tmp", mode=0o604)
    assert [
        ((root / n).read_text(), (root / n).stat().st_mode & 0o777) for n in ("file", "fresh")
    ] == [
        ("new", 0o640),
        ("new", 0o604),
    ]
    assert sorted(os.listdir(root)) == ["file", "fresh"]


@pytest.mark.parametrize("kind", ["link", "dangling", "pipe", "folder"])
def test_nothing_but_a_regular_file_is_opened_or_replaced(root, outside, kind):
    target = outside / "folder/file"
    if kind in ("link", "dangling"):
        (root / "it").symlink_to(target if kind == "link" else outside / "none")
    else:
        (os.mkfifo if kind == "pipe" else os.mkdir)(root / "it")
    with Root(root) as cache, cache.folder(root) as folder:
        with pytest.raises(Refused):
            folder.replace("it", b"new", temporary=".{}")
        for flags in (os.O_RDONLY, os.O_WRONLY | os.O_CREAT, os.O_RDWR):
            with pytest.raises(
                OSError, match=r"regular file|symbolic link|Is a directory|No such device"
            ):
                os.close(folder.open("it", flags))
    assert (target.read_text(), sorted(os.listdir(outside))) == ("x", ["folder"])
    assert os.listdir(root) == ["it"]


def test_a_link_is_replaced_and_not_written_through_where_a_file_should_be(root, outside):
    (root / "it").symlink_to(outside / "folder/file")
    with Root(root) as cache, cache.folder(root) as folder:
        folder.replace("it", b"new", temporary=".{}", mode=0o644)
    assert ((root / "it").read_text(), (root / "it").is_symlink()) == ("new", False)
    assert (outside / "folder/file").read_text() == "x"


def test_a_replacement_that_fails_leaves_nothing_behind(root, monkeypatch):
    (root / "file").write_text("old")
    monkeypatch.setattr(
        os, "fsync", lambda _fd: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with (
        Root(root) as cache,
        cache.folder(root) as folder,
        pytest.raises(OSError, match="No space"),
    ):
        folder.replace("file", b"new", temporary=".{}")
    assert ((root / "file").read_text(), os.listdir(root)) == ("old", ["file"])


# -- nothing else deletes --------------------------------------------------------------------------

DELETES = {"unlink", "rmdir", "remove", "rmtree", "removedirs", "renames"}
WRITES = {
    "rename",
    "replace",
    "move",
    "touch",
    "write_bytes",
    "write_text",
    "chmod",
    "chown",
    "lchown",
    "symlink",
    "rmtree",
}
OWN = {
    ("serving/lookup.py", "touch"): "of the store, through its port",
    (
        "tools/uv/environments.py",
        "replace",
    ): "a new list of seen environments, in our own state directory",
    (
        "tools/pip/warming.py",
        "write_text",
    ): "requirements for pip, in a temporary directory of ours",
}
"""Files of our own, which no cache holds."""


def calls(path):
    """Names of methods and functions that are called on modules and paths, with their lines."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name, of = node.func.attr, ast.unparse(node.func.value)
        if name == "replace" and (len(node.args) != 1 or of == "dataclasses"):
            continue  # of a text, or of a value
        yield name, of, node.lineno


def wrong(folder):
    """What deletes or changes a file by its path, or by any way but `entrepot.cache_root`."""
    for path in sorted(folder.rglob("*.py")):
        where = path.relative_to(folder.parent).as_posix()
        text = path.read_text(encoding="utf-8")
        for word in ("from shutil", "from os import"):
            if word in text:
                yield f"{where}: {word}"
        for name, of, line in calls(path):
            through = (
                of in THROUGH or of.startswith("self._cache") or (name == "remove" and of in LISTS)
            )
            if name in DELETES | WRITES and not through and (where, name) not in OWN:
                yield f"{where}:{line}: {of}.{name}"


THROUGH = {"root", "folder", "opened", "cache"}
"""What objects of `entrepot.cache_root` are called."""
LISTS = {"removal", "mending", "tool", "self", "seen"}
"""Whose `remove` is none of the file system's."""


@pytest.mark.parametrize("layer", ["tools", "app"])
def test_nothing_in_a_cache_is_deleted_or_changed_but_by_descriptor(layer):
    assert list(wrong(SOURCE / layer)) == []


BAD = (
    "import os\nos.unlink(x)",
    "import os\nos.rmdir(x)",
    "import os\nos.remove(x)",
    "import shutil\nshutil.rmtree(x)",
    "path.unlink(missing_ok=True)",
    "(folder / 'x').rmdir()",
    "Path(a).replace(b)",
    "os.chmod(top, 0o700)",
    "path.write_bytes(b'')",
)


@pytest.mark.parametrize("source", BAD)
def test_a_deletion_by_path_is_found(tmp_path, source):
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/new.py").write_text(source)
    assert list(wrong(tmp_path / "tools"))
