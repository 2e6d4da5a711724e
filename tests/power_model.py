"""A disk that forgets.

What a store does to its files is recorded, and every state that a power cut may leave of it is
built.

A disk keeps what was synced. Of everything else each piece is kept or lost for itself: the content
of a file (none of it, an older state, zeros, half), and each change of a directory: a rename is two
of them, so its new name may be there without the old one gone, the old one gone without the new one
there, and a later rename kept while an earlier one is lost.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import random
import shutil
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from entrepot.digests import sha256_of
from entrepot.httpcache.messages import Headers, ResponseHead, StoredResponse
from entrepot.ports.clock import SystemClock
from entrepot.serving.fetch import range_validator
from entrepot.serving.lookup import Entries
from entrepot.store.catalogue import SqliteCatalogue
from entrepot.store.directory import DirectoryStore
from entrepot.stored import Head, TransferState, body_key

BOOTING_S = 60.0
"""How long ago the last thing was written when the machine is up again."""
URL = "https://files.test/{}-1.0-py3-none-any.whl"


class Disk:
    """What was done below a directory, in order: entries made and removed, contents, syncs.

    Args:
        root: of the store.
    """

    def __init__(self, root: Path) -> None:
        self.root = f"{root}{os.sep}"
        self.log: list[tuple] = []
        self._files: dict[str, int] = {}
        self._open: dict[int, int] = {}
        self._count = 0
        self._lock = threading.RLock()

    @contextmanager
    def recording(self) -> Iterator[None]:
        """While this goes on, this process's calls are recorded."""
        real = {
            name: getattr(os, name)
            for name in "open close pwrite write ftruncate fsync replace link unlink".split()
        }

        def opened(path, flags, *args, **more):
            with self._lock:
                fd = real["open"](path, flags, *args, **more)
                path = _whole(path, more.get("dir_fd"))
                if self._here(path) and not stat.S_ISDIR(os.fstat(fd).st_mode):
                    if path not in self._files:
                        self._count += 1
                        self._enter(path, self._count)
                    self._open[fd] = self._files[path]
                return fd

        def closed(fd):
            with self._lock:
                self._open.pop(fd, None)
                real["close"](fd)

        def changed(name):
            def call(fd, *args):
                with self._lock:
                    result = real[name](fd, *args)
                    if fd in self._open:
                        size = os.fstat(fd).st_size
                        self.log.append(
                            (
                                "data",
                                self._open[fd],
                                Path(f"/proc/self/fd/{fd}").read_bytes()[:size],
                            )
                        )
                    return result

            return call

        def synced(fd):
            with self._lock:
                real["fsync"](fd)
                if fd in self._open:
                    self.log.append(("sync", self._open[fd]))
                elif self._here(f"{(path := os.readlink(f'/proc/self/fd/{fd}'))}{os.sep}"):
                    self.log.append(("sync-folder", path))

        def moved(name):
            def call(source, target, *args, **more):
                with self._lock:
                    real[name](source, target, *args, **more)
                    source = _whole(source, more.get("src_dir_fd"))
                    target = _whole(target, more.get("dst_dir_fd"))
                    if self._here(target):
                        self._enter(target, self._files[source])
                        if name == "replace":
                            self._enter(source, None)

            return call

        def removed(path, *args, **more):
            with self._lock:
                real["unlink"](path, *args, **more)
                path = _whole(path, more.get("dir_fd"))
                if self._here(path):
                    self._enter(path, None)

        fakes = {"open": opened, "close": closed, "fsync": synced, "unlink": removed}
        fakes |= {name: changed(name) for name in ("pwrite", "write", "ftruncate")}
        fakes |= {name: moved(name) for name in ("replace", "link")}
        for name, fake in fakes.items():
            setattr(os, name, fake)
        try:
            yield
        finally:
            for name, function in real.items():
                setattr(os, name, function)

    def _here(self, path: object) -> bool:
        return isinstance(path, str) and path.startswith(self.root)

    def _enter(self, path: str, file: int | None) -> None:
        self.log.append(("entry", path, file))
        if file is None:
            self._files.pop(path, None)
        else:
            self._files[path] = file

    def after_a_cut(self, steps: int, chance: random.Random) -> dict[str, tuple[int, bytes]]:
        """One of the states that a power cut after so many steps may leave.

        Path below the root, file and content.
        """
        log = self.log[:steps]
        durable = [n for n, step in enumerate(log) if step[0] == "entry"]
        volatile = set(durable[-chance.choice((1, 2, 4, 10, 10_000)) :])
        names: dict[str, int | None] = {}
        for n, (what, *step) in enumerate(log):
            if what == "sync-folder":
                volatile -= {m for m in durable if m < n and os.path.dirname(log[m][1]) == step[0]}
        for n in durable:
            if n not in volatile or chance.random() < 0.5:
                _, path, file = log[n]
                names[path] = file
        contents = {
            file: _content(log, file, chance) for file in names.values() if file is not None
        }
        return {
            path[len(self.root) :]: (file, contents[file])
            for path, file in names.items()
            if file is not None
        }


def _whole(path: object, folder: int | None) -> object:
    """A path that was given relative to an open directory, whole."""
    return path if folder is None else f"{os.readlink(f'/proc/self/fd/{folder}')}/{path}"


def _content(log: list[tuple], file: int, chance: random.Random) -> bytes:
    kept, later = b"", []
    for what, *step in log:
        if what == "data" and step[0] == file:
            later.append(step[1])
        elif what == "sync" and step[0] == file and later:
            kept, later = later[-1], []
    if not later:
        return kept
    last = later[-1]
    return chance.choice(
        [kept, last, last, chance.choice(later), bytes(len(last)), last[: len(last) // 2]]
    )


def build(root: Path, state: dict[str, tuple[int, bytes]]) -> None:
    """Make these files."""
    root.mkdir()
    made: dict[int, Path] = {}
    for name, (file, content) in state.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if file in made:
            os.link(made[file], path)
        else:
            path.write_bytes(content)
            made[file] = path
    a_while_ago = time.time() - BOOTING_S
    for path in root.rglob("*"):
        os.utime(path, (a_while_ago, a_while_ago))


class PowerWorld:
    """A store that is worked on, cut off, and looked at after the next boot.

    Args:
        directory: for the stores.
        boots: sets the name of the machine's boot.
    """

    def __init__(self, directory: Path, boots) -> None:
        self.directory = directory
        self.boots = boots
        self.root = directory / "store"
        self.disk = Disk(self.root)
        self.right: dict[str, set[bytes]] = {}
        self.partial: dict[str, bytes] = {}
        boots("boot-a")
        with self.disk.recording():
            for session in range(2):
                asyncio.run(self._work(session))

    async def _work(self, session: int) -> None:
        store = DirectoryStore(self.root, cap=1 << 40)
        entries = Entries(store, SqliteCatalogue(None), SystemClock())
        for name in ("demo", "page", "again"):
            await self._land(
                entries,
                name,
                f"{name} {0 if name == 'demo' else session} ".encode() * 300,
                proven=name == "demo",
            )
        await self._land(entries, f"only{session}", os.urandom(3000), proven=True)
        if session:
            (head,) = await entries.load(URL.format("only0"))
            await entries.drop(head.response.key)
            store.delete(body_key(head.body))
        self._begin(store, f"{'ab' * 19}0{session}", os.urandom(4000))
        store.sweep(time.time() + 7200)
        store.close()

    async def _land(self, entries: Entries, name: str, body: bytes, *, proven: bool) -> None:
        self.right.setdefault(URL.format(name), set()).add(body)
        growing = entries.store.open_partial(sha256_of(name.encode()).value[:40])
        assert growing.try_lock()
        head = head_of(name, body, proven=proven)
        growing.restart()
        growing.set_state(
            TransferState(dataclasses.replace(head, body=None), len(body), "m", False).to_bytes()
        )
        for at in range(0, len(body), 1000):
            growing.write(body[at : at + 1000])
        await entries.keep(URL.format(name), head, growing)
        growing.close()

    def _begin(self, store: DirectoryStore, name: str, body: bytes) -> None:
        """A download that breaks off, of a file whose digest nobody knows."""
        growing = store.open_partial(name)
        assert growing.try_lock()
        growing.set_state(
            TransferState(
                dataclasses.replace(head_of("partial", body, proven=False), body=None),
                len(body),
                "m",
                False,
            ).to_bytes()
        )
        for at in range(0, 3000, 1000):
            growing.write(body[at : at + 1000])
        growing.close()
        self.partial[name] = body

    def check(self, number: int, state: dict[str, tuple[int, bytes]]) -> int:
        """Whether what the store gives is right, and a sweep leaves no orphan.

        How many bodies it gave.
        """
        root = self.directory / f"after-{number}"
        build(root, state)
        self.boots(f"boot-{number}")
        given = asyncio.run(self._check(root))
        shutil.rmtree(root)
        return given

    async def _check(self, root: Path) -> int:
        store, given = DirectoryStore(root, cap=1 << 40), 0
        entries = Entries(store, SqliteCatalogue(None), SystemClock())
        for url, right in self.right.items():
            for head in await entries.load(url):
                blob = await entries.open_body(head)
                if blob is not None:
                    assert blob.read(0, blob.size) in right, url
                    blob.close()
                    given += 1
        for name, body in self.partial.items():
            growing = store.open_partial(name)
            assert growing.try_lock()
            told = TransferState.from_bytes(growing.state() or b"")
            if told is not None and range_validator(told.head.response.head):
                had = growing.read(0, growing.size())
                assert body.startswith(had), f"{len(had)} bytes would be resumed that never came"
            growing.close()
        for name, body in (("demo", b"demo 0 " * 300), ("new", b"new" * 500)):
            await self._land(entries, name, body, proven=True)
            (head,) = await entries.load(URL.format(name))
            assert await entries.open_body(head) is not None
        store.sweep(time.time() + 8 * 86400)
        named = set()
        for meta in store.list("heads"):
            blob = store.open(meta.key)
            named.add(body_key(Head.from_bytes(blob.read(0, blob.size)).body))
            blob.close()
        assert {meta.key for meta in store.list("bodies")} == named
        assert list((root / "flights").iterdir()) == []
        store.close()
        return given


def head_of(name: str, body: bytes, *, proven: bool) -> Head:
    """Of a download that is complete."""
    digest = sha256_of(body)
    response = ResponseHead(200, Headers([("ETag", '"v1"')]), "OK")
    now = time.time()
    return Head(
        URL.format(name),
        "GET",
        StoredResponse(response, (), now, now, len(body)),
        digest,
        proven=(digest,) if proven else (),
        kind="wheel",
    )


def cuts(world: PowerWorld, chance: random.Random, count: int) -> tuple[int, int]:
    """So many cuts at random steps; cuts, and bodies that were given out after them."""
    given = 0
    for number in range(count):
        given += world.check(
            number, world.disk.after_a_cut(chance.randrange(len(world.disk.log) + 1), chance)
        )
    return count, given
