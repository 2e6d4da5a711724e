"""Every store keeps the contract."""

from __future__ import annotations

import pytest

from entrepot.ports.store import Store
from entrepot.store.directory import DirectoryStore
from entrepot.testing.memory_store import MemoryStore
from entrepot.testing.store_suite import StoreSuite, body
from own_store import WatchedStore


class TestMemoryStore(StoreSuite):
    @pytest.fixture
    def store(self):
        return MemoryStore()


class TestDirectoryStore(StoreSuite):
    @pytest.fixture
    def store(self, tmp_path):
        store = DirectoryStore(tmp_path / "store", cap=10**9)
        yield store
        store.close()


class TestWatchedStore(StoreSuite):
    """The one that tests of the store's users watch."""

    @pytest.fixture
    def store(self, tmp_path):
        store = WatchedStore(tmp_path / "store")
        yield store
        store.close()


class TestDirectoryStoreWithoutLocks(StoreSuite):
    """A network file system whose locks do not work.

    Everything within one process still holds, but the holds.
    """

    @pytest.fixture
    def store(self, tmp_path, monkeypatch):
        from entrepot.store import locks

        class NoFlock:
            LOCK_EX, LOCK_SH, LOCK_NB = 2, 1, 4

            @staticmethod
            def flock(fd, operation):
                raise OSError(37, "No locks available")

        monkeypatch.setattr(locks, "fcntl", NoFlock)
        store = DirectoryStore(tmp_path / "store", cap=10**9)
        yield store
        store.close()

    def test_shared_holds_go_together_and_keep_an_exclusive_one_out(self, store):
        with store.hold(body(b"x")), store.hold(body(b"x"), exclusive=True):
            assert not store.locks


class TestDirectoryStoreWithoutHardLinks(StoreSuite):
    @pytest.fixture
    def store(self, tmp_path, monkeypatch):
        def link(*_, **_more):
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr("os.link", link)
        store = DirectoryStore(tmp_path / "store", cap=10**9)
        yield store
        store.close()


def typed(memory: MemoryStore, directory: DirectoryStore) -> list[Store]:
    """Only read by the type checker: the adapters fit the port."""
    return [memory, directory]
