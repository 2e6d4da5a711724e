"""Taking over a file of another cache: by a clone, a link where that is safe, or a copy.

Never what the check refuses.
"""

import hashlib
import os

import pytest

from entrepot.store.directory import DirectoryStore
from entrepot.testing.memory_store import MemoryStore

DATA = os.urandom(3_000_000)
KEY = f"bodies/sha256/{hashlib.sha256(DATA).hexdigest()[:2]}/{hashlib.sha256(DATA).hexdigest()[2:]}"


def whole(read, size):
    """Accept exactly DATA."""
    return KEY if size == len(DATA) and read(0, size) == DATA else None


@pytest.fixture(params=["directory", "memory"])
def store(request, tmp_path):
    return DirectoryStore(tmp_path / "store") if request.param == "directory" else MemoryStore()


def content(store):
    blob = store.get(KEY)
    data = blob.read(0, blob.size)
    blob.close()
    return data


@pytest.mark.parametrize("offset", [0, 1234])
@pytest.mark.parametrize("link", [False, True])
def test_a_part_of_a_file_becomes_an_object(store, tmp_path, offset, link):
    source = tmp_path / "source"
    source.write_bytes(b"x" * offset + DATA)
    assert store.adopt(source, offset, len(DATA), whole, link=link).size == len(DATA)
    assert content(store) == DATA


@pytest.mark.parametrize("there", ["absent", "short", "wrong", "a directory"])
def test_what_is_not_right_is_refused_and_leaves_nothing(store, tmp_path, there):
    source = tmp_path / "source"
    if there == "a directory":
        source.mkdir()
    elif there != "absent":
        source.write_bytes(DATA[:-1] if there == "short" else DATA[::-1])
    assert store.adopt(source, 0, len(DATA), whole) is None
    assert [m.key for m in store.list("bodies")] == []


def test_a_link_is_made_only_of_our_own_file_that_nobody_else_can_write(tmp_path):
    for mode, links in ((0o600, 2), (0o660, 1)):
        store = DirectoryStore(tmp_path / f"store-{mode}")
        source = tmp_path / f"source-{mode}"
        source.write_bytes(DATA)
        source.chmod(mode)
        store.adopt(source, 0, len(DATA), whole, link=True)
        assert source.stat().st_nlink == links
        source.unlink()
        assert content(store) == DATA


def test_a_symbolic_link_is_not_followed(tmp_path):
    store = DirectoryStore(tmp_path / "store")
    target = tmp_path / "target"
    target.write_bytes(DATA)
    source = tmp_path / "source"
    source.symlink_to(target)
    assert store.adopt(source, 0, len(DATA), whole) is None


def test_no_temporary_file_stays_behind(tmp_path):
    store = DirectoryStore(tmp_path / "store")
    source = tmp_path / "source"
    source.write_bytes(DATA)
    store.adopt(source, 0, len(DATA), whole, link=True)
    store.adopt(source, 0, len(DATA), lambda _read, _size: None)
    assert list((tmp_path / "store" / "flights").glob("*")) == []
