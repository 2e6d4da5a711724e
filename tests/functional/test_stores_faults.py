"""Full disks, foreign users and read-only places: real ones, so mostly for root."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from entrepot.errors import StoreFull
from entrepot.store import layout
from entrepot.store.catalogue import open_catalogue
from entrepot.store.directory import DirectoryStore
from entrepot.testing.store_suite import body, content

SRC = str(Path(layout.__file__).parents[2])
NOBODY = 65534

root_only = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root: mounts and other users"
)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m,nr_inodes=200", "none", place],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


def files(place: Path) -> set[str]:
    return {str(p.relative_to(place)) for p in place.rglob("*") if p.is_file()}


@pytest.mark.root
@root_only
class TestFullDisk:
    def test_a_put_that_does_not_fit_is_told_apart_and_leaves_nothing(self, small_disk):
        store = DirectoryStore(small_disk / "s", cap=10**9)
        store.put("heads/ab/cd/0", b"small")
        before = files(small_disk)
        big = b"x" * 3_000_000
        for made in (lambda: big, lambda: iter([big[:1_500_000], big[1_500_000:]])):
            with pytest.raises(StoreFull):
                store.put(body(big), made())
        assert files(small_disk) == before
        assert content(store, "heads/ab/cd/0") == b"small"
        store.close()

    def test_a_download_stops_where_the_disk_is_full_and_goes_on_when_there_is_room(
        self, small_disk
    ):
        store = DirectoryStore(small_disk / "s", cap=10**9)
        store.put(body(b"in the way"), b"y" * 1_000_000)
        flight = store.open_partial("f")
        flight.try_lock()
        written = 0
        with pytest.raises(StoreFull):  # noqa: PT012 - the write that fails is found by trying
            while True:
                flight.write(b"x" * 100_001)
                written += 100_001
        assert flight.size() == written
        assert (small_disk / "s" / "flights" / "f.part").stat().st_size == written
        store.delete(body(b"in the way"))
        flight.write(b"x" * 100_001)
        data = b"x" * (written + 100_001)
        flight.commit(body(data))
        flight.close()
        assert content(store, body(data)) == data
        store.close()

    def test_no_inode_left_is_no_room_too(self, small_disk):
        store = DirectoryStore(small_disk / "s", cap=10**9)
        with pytest.raises(StoreFull):  # noqa: PT012
            for i in range(300):
                store.put(f"heads/ab/{i}/0", b"x")
        store.close()

    def test_the_catalogue_on_a_full_disk_troubles_nobody(self, small_disk):
        store = DirectoryStore(small_disk / "s", cap=10**9)
        catalogue = open_catalogue(store.root)
        catalogue.learn_host("before:1")
        (small_disk / "filler").write_bytes(b"")
        with (  # noqa: PT012
            (small_disk / "filler").open("wb", buffering=0) as file,
            pytest.raises(OSError, match="space"),
        ):
            while True:
                file.write(b"x" * 4096)
        for i in range(2000):
            catalogue.learn_host(f"host{i}:1")
        assert catalogue.troubles > 0
        (small_disk / "filler").unlink()
        catalogue.learn_host("after:1")
        catalogue.close()
        again = open_catalogue(store.root)
        assert {"before:1", "after:1", "host1999:1"} <= again.hosts()
        again.close()
        store.close()


def as_nobody(code: str, *args: object) -> str:
    """What a script prints that runs as another user, with the modules already loaded."""
    script = f"import os, sys; sys.argv = {['-', *map(str, args)]!r}\n"
    script += "import sqlite3, json, stat\nfrom pathlib import Path\n"
    script += "from entrepot.errors import StoreError\nfrom entrepot.store.directory import DirectoryStore\n"
    script += "from entrepot.store.catalogue import open_catalogue\n"
    script += f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": SRC},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def open_place():
    """A directory that other users can reach; pytest's own are closed to them."""
    place = Path("/tmp") / f"entrepot-test-{os.urandom(6).hex()}"
    place.mkdir(mode=0o755)
    yield place
    shutil.rmtree(place)


TRY_ALL = """
store = DirectoryStore(Path(sys.argv[1]), create=False)
def tried(work):
    try:
        work()
    except StoreError as exc:
        return type(exc).__name__
    return "done"
def hold():
    with store.hold("heads/ab/cd/0"):
        pass
print(store.get("heads/ab/cd/0").read(0, 9).decode(),
      tried(lambda: store.put("heads/ab/cd/1", b"x")), tried(lambda: store.delete("heads/ab/cd/0")),
      tried(lambda: store.open_partial("f").try_lock()), tried(hold), tried(lambda: store.touch("heads/ab/cd/0")))
catalogue = open_catalogue(store.root)
print(catalogue.degraded, len(list(catalogue.listing())), sorted(catalogue.hosts()))
catalogue.learn_host("x:1")
catalogue.rebuild(store)
catalogue.close()
store.close()
"""


@pytest.mark.root
@root_only
class TestOtherUsers:
    def test_a_private_store_is_closed_to_others(self, open_place):
        DirectoryStore(open_place / "s").close()
        out = as_nobody(
            "try:\n    DirectoryStore(Path(sys.argv[1]))\nexcept StoreError as exc:\n    print(type(exc).__name__, exc.hint)",
            open_place / "s",
        )
        assert out.startswith("StoreUnavailable set ENTREPOT_STORE")

    def test_a_store_that_may_only_be_read_is_read_and_every_write_says_so(self, open_place):
        place = open_place / "s"
        place.mkdir(mode=0o755)
        place.chmod(0o755)
        store = DirectoryStore(place)
        store.put("heads/ab/cd/0", b"hello")
        catalogue = open_catalogue(place)
        catalogue.learn_host("files.test:443")
        catalogue.close()
        store.close()
        before = files(place)
        first, second = as_nobody(TRY_ALL, place).splitlines()
        assert (
            first
            == "hello StoreUnavailable StoreUnavailable StoreUnavailable StoreUnavailable done"
        )
        assert second.startswith("True 0 ")
        assert files(place) == before

    def test_a_shared_store_is_written_by_both_and_each_can_replace_and_remove(self, open_place):
        place = open_place / "s"
        place.mkdir()
        os.chown(place, 0, NOBODY)
        place.chmod(0o2770)
        store = DirectoryStore(place)
        store.put("heads/ab/cd/0", b"by root")
        code = """
store = DirectoryStore(Path(sys.argv[1]))
store.put("heads/ab/cd/0", b"by nobody")
store.put("heads/ab/ce/0", b"by nobody")
flight = store.open_partial("f")
assert flight.try_lock()
flight.write(b"half")
flight.close()
with store.hold("heads/ab/cd/0"):
    pass
catalogue = open_catalogue(store.root)
catalogue.learn_host("nobody:1")
catalogue.close()
store.close()
print(store.shared)
"""
        assert as_nobody(code, place) == "True"
        assert content(store, "heads/ab/cd/0") == b"by nobody"
        store.put("heads/ab/ce/0", b"by root")
        flight = store.open_partial("f")
        assert flight.try_lock()
        assert flight.size() == 4
        flight.discard()
        flight.close()
        store.close()
        assert {oct(stat.S_IMODE(p.stat().st_mode)) for p in place.rglob("*") if p.is_file()} == {
            "0o660"
        }

    def test_a_file_system_mounted_for_reading_is_read(self, small_disk):
        store = DirectoryStore(small_disk / "s")
        store.put("heads/ab/cd/0", b"hello")
        store.close()
        subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
        scope = {
            "sys": type("Sys", (), {"argv": ["", str(small_disk / "s")]}),
            "Path": Path,
        }
        from entrepot.errors import StoreError

        printed = []
        scope |= {
            "DirectoryStore": DirectoryStore,
            "open_catalogue": open_catalogue,
            "StoreError": StoreError,
        }
        exec(TRY_ALL, scope | {"print": lambda *a: printed.append(a)})
        assert printed[0] == ("hello", *["StoreUnavailable"] * 4, "done")
        assert printed[1][0] is True
