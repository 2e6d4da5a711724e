"""The store's contract as tests.

Subclass, say how to make a store, and every promise of ``ports/store.py`` is checked.

    class TestMemoryStore(StoreSuite):
        @pytest.fixture
        def store(self):
            return MemoryStore()

:class:`ReadingSuite` alone is for stores that are only read; it fills them through
:meth:`ReadingSuite.given`.
"""

# ruff: noqa: D102 - the names of tests are sentences

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from entrepot.errors import Busy, FormatError, ProtocolMisuse
from entrepot.ports.store import Store

BAD_KEYS = [
    "",
    "/",
    "a//b",
    "/a",
    "a/",
    ".",
    "..",
    "a/../b",
    "a/./b",
    "a b",
    "a\\b",
    "a\0b",
    "é",
    "a" * 201,
    "a\n",
    "/".join("ab" * 300),
]


def body(data: bytes) -> str:
    """The key under which a body of these bytes belongs."""
    value = hashlib.sha256(data).hexdigest()
    return f"bodies/sha256/{value[:2]}/{value[2:]}"


def broken(*parts: bytes) -> Iterator[bytes]:
    """A stream that fails after some bytes."""
    yield from parts
    raise ConnectionResetError


def content(store: Store, key: str) -> bytes | None:
    """All bytes of an object."""
    blob = store.get(key)
    if blob is None:
        return None
    try:
        return blob.read(0, blob.size)
    finally:
        blob.close()


def keys(store: Store, prefix: str) -> list[str]:
    """The keys below a prefix, sorted."""
    return sorted(each.key for each in store.list(prefix))


class ReadingSuite:
    """Promises of every store about reading."""

    @pytest.fixture
    def store(self) -> Store:
        """The store under test, empty."""
        raise NotImplementedError

    def given(self, store: Store, key: str, data: bytes) -> None:
        """Bring an object into the store, by whatever way there is."""
        store.put(key, data)

    def test_an_absent_key_gives_none(self, store: Store) -> None:
        assert store.get("heads/ab/cd/0") is None
        assert store.head("heads/ab/cd/0") is None
        assert keys(store, "heads") == []

    def test_what_was_stored_is_read_back(self, store: Store) -> None:
        self.given(store, "heads/ab/cd/0", b"hello")
        assert content(store, "heads/ab/cd/0") == b"hello"

    def test_an_empty_object_is_an_object(self, store: Store) -> None:
        self.given(store, "heads/ab/cd/0", b"")
        assert content(store, "heads/ab/cd/0") == b""

    def test_a_blob_reads_any_span_and_is_short_only_at_the_end(self, store: Store) -> None:
        self.given(store, body(b"0123456789"), b"0123456789")
        blob = store.get(body(b"0123456789"))
        assert blob is not None
        assert blob.size == 10
        assert [blob.read(*span) for span in ((0, 3), (8, 5), (10, 1), (99, 1), (4, 0))] == [
            b"012",
            b"89",
            b"",
            b"",
            b"",
        ]
        blob.close()
        blob.close()

    def test_head_tells_the_size(self, store: Store) -> None:
        self.given(store, "heads/ab/cd/0", b"hello")
        meta = store.head("heads/ab/cd/0")
        assert meta is not None
        assert (meta.key, meta.size) == ("heads/ab/cd/0", 5)
        assert meta.modified > 0

    def test_a_folder_of_keys_is_no_object(self, store: Store) -> None:
        self.given(store, "heads/ab/cd/0", b"x")
        assert store.get("heads/ab") is None
        assert store.head("heads/ab") is None

    def test_nothing_is_below_an_object(self, store: Store) -> None:
        self.given(store, "heads/ab/cd/0", b"x")
        assert store.get("heads/ab/cd/0/more") is None
        assert keys(store, "heads/ab/cd/0/more") == []

    def test_list_goes_by_whole_segments(self, store: Store) -> None:
        for key in ("heads/ab/cd/0", "heads/ab/ce/0", "heads/abc/d/0", "bodies/x"):
            self.given(store, key, b"x")
        assert keys(store, "heads/ab") == ["heads/ab/cd/0", "heads/ab/ce/0"]
        assert keys(store, "heads/a") == []
        assert keys(store, "heads/ab/cd/0") == ["heads/ab/cd/0"]
        assert keys(store, "") == ["bodies/x", "heads/ab/cd/0", "heads/ab/ce/0", "heads/abc/d/0"]

    @pytest.mark.parametrize("key", BAD_KEYS, ids=ascii)
    def test_what_is_no_key_is_refused_wherever_it_comes(self, store: Store, key: str) -> None:
        with pytest.raises(FormatError):
            store.get(key)
        with pytest.raises(FormatError):
            store.head(key)

    def test_a_touch_of_nothing_is_no_error(self, store: Store) -> None:
        store.touch("heads/ab/cd/0")


class WritingSuite(ReadingSuite):
    """Promises about writing."""

    @pytest.mark.parametrize("key", BAD_KEYS, ids=ascii)
    def test_nothing_is_written_under_what_is_no_key(self, store: Store, key: str) -> None:
        with pytest.raises(FormatError):
            store.put(key, b"x")
        with pytest.raises(FormatError):
            store.delete(key)
        assert keys(store, "") == []

    @pytest.mark.parametrize("name", [*BAD_KEYS, "a/b"], ids=ascii)
    def test_a_partial_file_has_a_segment_for_its_name(self, store: Store, name: str) -> None:
        with pytest.raises(FormatError):
            store.open_partial(name)

    def test_a_put_replaces(self, store: Store) -> None:
        store.put("heads/ab/cd/0", b"old and longer")
        meta = store.put("heads/ab/cd/0", b"new")
        assert meta.size == 3
        assert content(store, "heads/ab/cd/0") == b"new"

    def test_a_stream_is_put_whole(self, store: Store) -> None:
        meta = store.put(body(b"abcdef"), iter([b"ab", b"", b"cdef"]))
        assert meta.size == 6
        assert content(store, body(b"abcdef")) == b"abcdef"

    def test_a_stream_that_breaks_leaves_what_was_there(self, store: Store) -> None:
        store.put("heads/ab/cd/0", b"old")
        with pytest.raises(ConnectionResetError):
            store.put("heads/ab/cd/0", broken(b"new"))
        with pytest.raises(ConnectionResetError):
            store.put("heads/ab/cd/1", broken(b"new"))
        assert content(store, "heads/ab/cd/0") == b"old"
        assert keys(store, "") == ["heads/ab/cd/0"]

    def test_an_open_blob_outlives_replacement_and_deletion(self, store: Store) -> None:
        store.put("heads/ab/cd/0", b"old")
        first = store.get("heads/ab/cd/0")
        store.put("heads/ab/cd/0", b"new")
        second = store.get("heads/ab/cd/0")
        store.delete("heads/ab/cd/0")
        assert first is not None
        assert second is not None
        assert (first.read(0, 9), second.read(0, 9)) == (b"old", b"new")
        first.close()
        second.close()

    def test_delete_tells_whether_there_was_anything(self, store: Store) -> None:
        store.put("heads/ab/cd/0", b"x")
        freed = store.delete("heads/ab/cd/0")
        assert freed is not None
        assert freed >= 0
        assert store.delete("heads/ab/cd/0") is None
        assert keys(store, "") == []

    def test_deleting_one_variant_keeps_the_others(self, store: Store) -> None:
        store.put("heads/ab/cd/0", b"x")
        store.put("heads/ab/cd/1", b"y")
        store.delete("heads/ab/cd/0")
        assert keys(store, "heads") == ["heads/ab/cd/1"]

    def test_a_folder_is_not_deleted(self, store: Store) -> None:
        store.put("heads/ab/cd/0", b"x")
        assert store.delete("heads/ab/cd") is None
        assert content(store, "heads/ab/cd/0") == b"x"

    def test_shared_holds_go_together_and_keep_an_exclusive_one_out(self, store: Store) -> None:
        key = body(b"x")
        with store.hold(key), store.hold(key), pytest.raises(Busy), store.hold(key, exclusive=True):
            pytest.fail("two holds that exclude each other")
        with store.hold(key, exclusive=True):
            pass

    def test_a_hold_ends_with_its_block_also_on_failure(self, store: Store) -> None:
        with pytest.raises(ZeroDivisionError), store.hold(body(b"x"), exclusive=True):
            raise ZeroDivisionError
        with store.hold(body(b"x"), exclusive=True):
            pass


class PartialFileSuite:
    """Promises about downloads that grow."""

    @pytest.fixture
    def store(self) -> Store:
        """The store under test, empty."""
        raise NotImplementedError

    def test_one_writes_and_others_read_along(self, store: Store) -> None:
        writer, follower = store.open_partial("f"), store.open_partial("f")
        assert follower.size() == 0
        assert follower.read(0, 10) == b""
        assert writer.try_lock()
        assert writer.try_lock(), "locking twice is locking"
        assert not follower.try_lock()
        writer.write(b"hello ")
        writer.write(b"world")
        assert (writer.size(), follower.size()) == (11, 11)
        assert follower.read(6, 99) == b"world"
        writer.close()
        follower.close()

    def test_a_reader_is_told_whether_it_is_locked(self, store: Store) -> None:
        assert not store.is_locked("f")
        writer = store.open_partial("f")
        assert writer.try_lock()
        writer.write(b"a beginning")
        assert store.is_locked("f") in (True, None)
        writer.close()
        assert store.is_locked("f") in (False, None)
        again = store.open_partial("f")
        assert again.try_lock(), "the look keeps nobody from locking"
        again.close()

    def test_it_is_written_under_its_lock_only(self, store: Store) -> None:
        writer, follower = store.open_partial("f"), store.open_partial("f")
        writer.try_lock()
        for act in (follower.write, follower.set_state):
            with pytest.raises(ProtocolMisuse):
                act(b"x")
        for end in (follower.restart, follower.discard):
            with pytest.raises(ProtocolMisuse):
                end()
        with pytest.raises(ProtocolMisuse):
            follower.commit(body(b""))
        writer.close()
        follower.close()

    def test_a_later_writer_resumes_bytes_and_state(self, store: Store) -> None:
        first = store.open_partial("f")
        first.try_lock()
        first.write(b"half")
        first.set_state(b"state 1")
        first.set_state(b"state 2")
        first.close()
        first.close()
        second = store.open_partial("f")
        assert second.state() == b"state 2"
        assert second.try_lock()
        assert (second.size(), second.state()) == (4, b"state 2")
        second.write(b" and half")
        second.commit(body(b"half and half"))
        second.close()
        assert content(store, body(b"half and half")) == b"half and half"

    def test_a_follower_takes_over_with_what_it_has_read(self, store: Store) -> None:
        writer, follower = store.open_partial("f"), store.open_partial("f")
        writer.try_lock()
        writer.write(b"abc")
        assert follower.read(0, 3) == b"abc"
        writer.close()
        assert follower.is_current()
        assert follower.try_lock()
        follower.write(b"def")
        assert follower.read(0, 9) == b"abcdef"
        follower.close()

    def test_a_released_lock_is_free_and_its_bytes_stay_readable(self, store: Store) -> None:
        first, second = store.open_partial("f"), store.open_partial("f")
        first.try_lock()
        first.write(b"abc")
        first.set_state(b"state")
        first.release()
        first.release()
        assert (first.size(), first.read(0, 9), first.state()) == (3, b"abc", b"state")
        with pytest.raises(ProtocolMisuse):
            first.write(b"x")
        assert second.try_lock()
        second.write(b"def")
        assert first.read(0, 9) == b"abcdef"
        assert not first.try_lock()
        second.close()
        assert first.try_lock(), "its earlier holder may lock it again"
        assert first.size() == 6
        first.close()

    def test_a_committed_body_is_read_on_after_release(self, store: Store) -> None:
        writer = store.open_partial("f")
        writer.try_lock()
        writer.write(b"data")
        writer.commit(body(b"data"))
        writer.release()
        assert (writer.size(), writer.read(1, 2)) == (4, b"at")
        writer.close()

    def test_commit_makes_an_object_and_ends_the_download(self, store: Store) -> None:
        writer, follower = store.open_partial("f"), store.open_partial("f")
        writer.try_lock()
        writer.set_state(b"state")
        writer.write(b"data")
        assert follower.size() == 4
        meta = writer.commit(body(b"data"))
        assert (meta.key, meta.size) == (body(b"data"), 4)
        assert content(store, body(b"data")) == b"data"
        assert writer.state() is None
        assert not follower.is_current()
        assert (follower.read(0, 9), writer.read(0, 9)) == (b"data", b"data")
        assert (follower.size(), writer.size()) == (4, 4)
        assert not follower.try_lock(), "the lock is kept until close"
        writer.close()
        assert follower.try_lock()
        assert follower.size() == 0, "the next writer begins with nothing"
        follower.close()
        assert content(store, body(b"data")) == b"data"

    def test_nobody_writes_a_body_through_its_partial_file(self, store: Store) -> None:
        writer = store.open_partial("f")
        writer.try_lock()
        writer.write(b"data")
        writer.commit(body(b"data"))
        with pytest.raises(ProtocolMisuse):
            writer.write(b"more")
        with pytest.raises(ProtocolMisuse):
            writer.commit(body(b"data"))
        writer.discard()
        writer.restart()
        writer.write(b"other")
        writer.close()
        assert content(store, body(b"data")) == b"data"

    def test_a_body_that_is_there_stays_right_for_its_readers(self, store: Store) -> None:
        store.put(body(b"data"), b"data")
        reader = store.get(body(b"data"))
        writer = store.open_partial("f")
        writer.try_lock()
        writer.write(b"data")
        assert writer.commit(body(b"data")).size == 4
        writer.close()
        assert content(store, body(b"data")) == b"data"
        assert reader is not None
        assert reader.read(0, 9) == b"data"
        reader.close()

    @pytest.mark.parametrize("wrong", [b"da", b"DATA"])
    def test_a_body_that_is_wrong_is_replaced(self, store: Store, wrong: bytes) -> None:
        store.put(body(b"data"), wrong)
        writer = store.open_partial("f")
        writer.try_lock()
        writer.write(b"data")
        writer.commit(body(b"data"))
        writer.close()
        assert content(store, body(b"data")) == b"data"

    def test_a_restart_begins_anew_and_readers_keep_the_old(self, store: Store) -> None:
        writer, follower = store.open_partial("f"), store.open_partial("f")
        writer.try_lock()
        writer.write(b"old bytes")
        writer.set_state(b"state")
        assert follower.size() == 9
        writer.restart()
        assert (writer.size(), writer.state()) == (0, None)
        writer.write(b"new")
        assert follower.read(0, 99) == b"old bytes"
        assert not follower.is_current()
        assert writer.is_current()
        late = store.open_partial("f")
        assert late.read(0, 99) == b"new"
        assert late.is_current()
        for each in (writer, follower, late):
            each.close()

    def test_discard_throws_away_and_readers_keep_the_old(self, store: Store) -> None:
        writer, follower = store.open_partial("f"), store.open_partial("f")
        writer.try_lock()
        writer.write(b"bad")
        writer.set_state(b"state")
        assert follower.size() == 3
        writer.discard()
        assert writer.state() is None
        assert follower.read(0, 9) == b"bad"
        assert not follower.is_current()
        writer.close()
        late = store.open_partial("f")
        assert (late.size(), late.state()) == (0, None)
        late.close()
        follower.close()
        assert keys(store, "") == []

    def test_a_partial_file_is_no_object(self, store: Store) -> None:
        writer = store.open_partial("f")
        writer.try_lock()
        writer.write(b"x")
        writer.set_state(b"state")
        assert keys(store, "") == []
        writer.close()

    def test_partial_files_of_other_names_do_not_meet(self, store: Store) -> None:
        names = ["f", "f.part", "f.lock", "f.note", "g"]
        files = [store.open_partial(name) for name in names]
        for file, name in zip(files, names, strict=True):
            assert file.try_lock()
            file.write(name.encode())
            file.set_state(name.encode())
        assert [f.read(0, 99).decode() for f in files] == names
        assert [(f.state() or b"").decode() for f in files] == names
        for file in files:
            file.close()


class StoreSuite(WritingSuite, PartialFileSuite):
    """All promises of ``ports/store.py``; for every store that can be written."""
