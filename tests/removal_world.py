"""Removals of random trees while a second process swaps folders for links.

Nothing outside the root may change.

Run as a program by `bench/removal_attack.py` and by `tests/functional/test_removal_attack.py`.
"""

import ctypes
import itertools
import os
import random
import shutil
import signal
import stat
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path

from entrepot import cache_root as removal
from entrepot.cache_root import Refused, Root, mount_points

_LIBC = ctypes.CDLL(None, use_errno=True)
_BIND, _DETACH, _PRIVATE = 0x1000, 2, 0x44000
_NEW_NAMESPACE = 0x20000


def mount_namespace():
    """Whether this process has mounts of its own now: they end with it, whatever happens."""
    if os.geteuid() or _LIBC.unshare(_NEW_NAMESPACE):
        return False
    return not _LIBC.mount(b"none", b"/", None, _PRIVATE, None)


def bind(what, where):
    """Mount a directory or a file at another place."""
    if _LIBC.mount(os.fsencode(what), os.fsencode(where), None, _BIND, None):
        raise OSError(ctypes.get_errno(), "mount")


def unbind(where):
    """Undo `bind`."""
    _LIBC.umount2(os.fsencode(where), _DETACH)


def snapshot(top):
    """All that a removal could change outside.

    Names, kinds, modes, owners, contents, and times of directories.
    """
    found = {}
    for path in (top, *sorted(top.rglob("*"))):
        info = path.lstat()
        told = path.read_bytes() if stat.S_ISREG(info.st_mode) else b""
        when = info.st_mtime_ns if stat.S_ISDIR(info.st_mode) else 0
        found[str(path)] = (info.st_mode, info.st_uid, info.st_ino, told, when)
    return found


def make_outside(top):
    """What must stay: folders with names that the trees have, too."""
    for name in "abc":
        (top / name / "a" / "b").mkdir(parents=True)
        for number in range(3):
            (top / name / "a" / f"f{number}").write_text(f"{name}{number}")
    (top / "file").write_text("outside")


def make_tree(chance, root, outside, may_mount):
    """A random tree."""
    folders, mounts, modes = [root], [], []
    for _ in range(chance.randrange(5, 25)):
        above = chance.choice(folders)
        folder = above / chance.choice("abcdefgh")
        if not folder.exists():
            folder.mkdir()
            folders.append(folder)
    for folder in folders:
        for number in range(chance.randrange(4)):
            (folder / f"f{number}").write_text("x")
        if chance.random() < 0.3:
            (folder / "hard").hardlink_to(outside / "file")
        if chance.random() < 0.4:
            (folder / "soft").symlink_to(outside / chance.choice(["a", "file", "b/a", "none"]))
        if chance.random() < 0.1:
            os.mkfifo(folder / "pipe")
    for folder in folders[1:]:
        if may_mount and chance.random() < 0.1 and not set(mounts) & set(folder.parents):
            bind(outside / chance.choice("abc"), folder)
            mounts.append(folder)
        elif chance.random() < 0.1:
            modes.append((folder, chance.choice([0o555, 0o000, 0o311])))
    for folder, mode in reversed(modes):  # the deepest first
        if not set(mounts) & {folder, *folder.parents}:
            folder.chmod(mode)


class Attacker:
    """Swaps folders for links, links for folders, and moves folders into others.

    Never touches what lies outside itself.
    """

    def __init__(self, seed, root, aside, outside):
        self.chance, self.numbers, self.outside = random.Random(seed), itertools.count(), outside
        self.forbidden = {path.lstat().st_ino for path in (outside, *outside.rglob("*"))}
        self.root, self.aside = os.open(root, os.O_RDONLY), os.open(aside, os.O_RDONLY)

    def run(self):
        while True:
            at = self.somewhere()
            try:
                self.act(at)
            except (OSError, IndexError):
                pass
            finally:
                os.close(at)

    def somewhere(self):
        """A folder of the tree, open; no link and no mount leads there."""
        at = os.dup(self.root)
        while self.chance.random() < 0.6:
            try:
                below = os.open(
                    self.chance.choice(os.listdir(at)),
                    os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW,
                    dir_fd=at,
                )
            except (OSError, IndexError):
                continue
            if os.fstat(below).st_ino in self.forbidden:
                os.close(below)
                continue
            os.close(at)
            at = below
        return at

    def act(self, at):
        name = self.chance.choice(os.listdir(at))
        mode = os.stat(name, dir_fd=at, follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode) and self.chance.random() < 0.8:
            os.rename(name, str(next(self.numbers)), src_dir_fd=at, dst_dir_fd=self.aside)
            os.symlink(f"{self.outside}/{self.chance.choice('abc')}", name, dir_fd=at)
        elif stat.S_ISDIR(mode):
            to = self.somewhere()
            try:
                os.rename(name, f"moved{next(self.numbers)}", src_dir_fd=at, dst_dir_fd=to)
            finally:
                os.close(to)
        elif stat.S_ISLNK(mode):
            back = self.chance.choice(os.listdir(self.aside))
            os.unlink(name, dir_fd=at)
            os.rename(back, name, src_dir_fd=self.aside, dst_dir_fd=at)


def one_round(seed, top, may_mount, attacker_uid):
    """What came of one removal."""
    chance = random.Random(seed)
    root, aside, outside = top / "root", top / "aside", top / "outside"
    for folder in (root, aside, outside):
        folder.mkdir()
    make_outside(outside)
    make_tree(chance, root, outside, may_mount)
    if attacker_uid is not None:
        inside = {path.lstat().st_ino for path in outside.rglob("*")}
        for path in (aside, *root.rglob("*")):
            if path.lstat().st_ino not in inside:
                os.chown(path, attacker_uid, attacker_uid, follow_symlinks=False)
    before, kept = snapshot(outside), 0
    child = os.fork()
    if not child:
        if attacker_uid is not None:
            become(attacker_uid)
        _LIBC.prctl(
            1, signal.SIGKILL
        )  # PR_SET_PDEATHSIG: it goes when the removing process is killed
        Attacker(seed, root, aside, outside).run()
    try:
        time.sleep(chance.random() * 0.004)
        with Root(root) as cache:
            for path in list(root.iterdir()):
                try:
                    cache.remove(aside_of(cache, path) if chance.random() < 0.5 else path)
                except OSError:
                    kept += 1
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    after = snapshot(outside)
    assert after == before, f"seed {seed}: {set(before.items()) ^ set(after.items())}"
    finish(root)
    assert snapshot(outside) == before, f"seed {seed}: after the attack"
    return "partly" if kept else "whole"


def aside_of(cache, path):
    """Move something into a trash first, as the tools do; where it is now."""
    trash = path.parent / "trash"
    cache.make_folder(trash)
    cache.move(path, trash / path.name)
    return trash / path.name


def finish(root):
    """Without an attacker all goes but what a mount lies in."""
    mounts = mount_points(root)
    with Root(root) as cache:
        for path in list(root.iterdir()):
            with suppress(Refused):
                cache.remove(path)
    assert mounts or not list(root.iterdir())
    assert mount_points(root) == mounts


def become(uid):
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def main(rounds, uid=None, attacker_uid=None, by_path=None):
    """Play rounds and print what came of them.

    Args:
        rounds: how many.
        uid: the user that removes; `None`: this one.
        attacker_uid: the user that attacks; `None`: the same.
        by_path: not 0: remove as where there is no `openat`, which must fail.
    """
    removal.BY_DESCRIPTOR = not by_path
    may_mount = mount_namespace() and uid is None
    seed = random.randrange(1 << 30)
    outcome = Counter()
    place = tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
    Path(place).chmod(0o755)
    try:
        for number in range(rounds):
            top = Path(place, str(number))
            top.mkdir()
            work = partial(one_round, seed + number, top, may_mount, attacker_uid)
            outcome[apart(work, top, uid)] += 1
            for point in reversed(mount_points(top)):
                unbind(point)
            shutil.rmtree(top)
    finally:
        for point in reversed(mount_points(place)):
            unbind(point)
        shutil.rmtree(place)
    print(
        f"{rounds} rounds from seed {seed}: {dict(outcome)}; with mounts: {may_mount}", flush=True
    )


def apart(work, top, uid):
    """What some work says, done as another user in a process of its own if there is one."""
    if uid is None:
        return work()
    os.chown(top, uid, uid)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        become(uid)
        try:
            os.write(writing, work().encode())
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        said = told.read()
    assert os.waitpid(child, 0)[1] == 0
    return said


if __name__ == "__main__":
    main(int(sys.argv[1]), *(int(word) if word else None for word in sys.argv[2:]))
