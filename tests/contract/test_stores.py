"""Every store and every wrapper keeps the contract."""

from __future__ import annotations

import pytest

from entrepot.errors import StoreUnavailable
from entrepot.ports.store import Store
from entrepot.store.counting import CountingStore
from entrepot.store.directory import DirectoryStore
from entrepot.store.memory import MemoryStore
from entrepot.store.readonly import ReadOnlyStore
from entrepot.testing.store_suite import ReadingSuite, StoreSuite, body, content, keys, run


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
        def link(*_):
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr("os.link", link)
        store = DirectoryStore(tmp_path / "store", cap=10**9)
        yield store
        store.close()


class TestCountingStore(StoreSuite):
    @pytest.fixture
    def store(self):
        return CountingStore(MemoryStore())

    def test_it_counts_calls_and_bytes(self, store):
        run(store.put("a", b"123"))
        run(store.get("a"))
        run(store.get("b"))
        assert store.calls == {"put": 1, "put_bytes": 3, "get": 2, "get_hit": 1}


class TestReadOnlyStore(ReadingSuite):
    @pytest.fixture
    def store(self):
        return ReadOnlyStore(MemoryStore())

    def given(self, store, key, data):
        run(store.inner.put(key, data))

    def test_every_write_is_refused_and_nothing_changes(self, store):
        self.given(store, "a", b"x")
        before = run(store.head("a"))
        for call in (store.put("a", b"y"), store.put("b", b"y", mode="create"), store.delete("a")):
            with pytest.raises(StoreUnavailable):
                run(call)
        with pytest.raises(StoreUnavailable):
            store.open_flight("f")
        with pytest.raises(StoreUnavailable):
            store.hold("a", exclusive=True)
        with store.hold("a"):
            store.touch("a")
        assert content(store, "a") == b"x"
        assert run(store.head("a")) == before
        assert keys(store, "") == ["a"]


def typed(memory: MemoryStore, directory: DirectoryStore) -> list[Store]:
    """Only read by the type checker: the adapters fit the port."""
    return [memory, directory, ReadOnlyStore(memory), CountingStore(directory)]
