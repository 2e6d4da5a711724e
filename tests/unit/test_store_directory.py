"""The store on a directory, as far as it is more than the contract."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from entrepot.errors import Busy, FormatError, StoreFull, StoreUnavailable
from entrepot.store import directory, disk, layout
from entrepot.store.catalogue import SqliteCatalogue
from entrepot.store.directory import DirectoryStore
from entrepot.stored import body_key
from entrepot.testing.store_suite import body, content
from unit.storing import age, digest, disk_of, files, head_of, stored

SRC = str(Path(layout.__file__).parents[2])


@pytest.fixture
def store(tmp_path):
    store = DirectoryStore(tmp_path / "store", cap=10**9)
    yield store
    store.close()


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestTheDirectory:
    def test_a_new_store_has_the_tag_and_its_format_and_is_its_owners_alone(self, store):
        assert (
            (store.root / "CACHEDIR.TAG")
            .read_text()
            .startswith("Signature: 8a477f597d28d172789f06886806bc55\n")
        )
        assert (store.root / "entrepot-store").read_text() == "entrepot store, format 1\n"
        assert mode(store.root) == 0o700
        assert not store.shared

    def test_files_and_folders_follow_the_root_whatever_the_umask(self, tmp_path):
        old = os.umask(0o077)
        try:
            root = tmp_path / "team"
            root.mkdir()
            root.chmod(0o2770)
            store = DirectoryStore(root)
            store.put(body(b"x"), b"x")
            flight = store.open_partial("f")
            flight.try_lock()
            flight.write(b"x")
            flight.close()
            store.close()
        finally:
            os.umask(old)
        assert store.shared
        for path in root.rglob("*"):
            assert mode(path) == (0o2770 if path.is_dir() else 0o660), path

    def test_a_private_store_has_private_files(self, store):
        old = os.umask(0)
        try:
            store.put(body(b"x"), b"x")
        finally:
            os.umask(old)
        assert {mode(p) for p in store.root.rglob("*")} == {0o700, 0o600}

    def test_opening_again_changes_nothing(self, store):
        store.put("heads/ab/cd/0", b"x")
        before = {p: p.stat().st_mtime_ns for p in store.root.rglob("*")}
        DirectoryStore(store.root, create=False).close()
        assert {p: p.stat().st_mtime_ns for p in store.root.rglob("*")} == before

    @pytest.mark.parametrize(
        "text", ["entrepot store, format 2\n", "format 1", "", "\0"], ids=ascii
    )
    def test_another_format_is_left_alone_with_a_clear_word(self, store, text):
        (store.root / "entrepot-store").write_text(text)
        with pytest.raises(StoreUnavailable, match="format") as caught:
            DirectoryStore(store.root)
        assert "ENTREPOT_STORE" in caught.value.hint
        assert (store.root / "entrepot-store").read_text() == text

    def test_somebody_elses_directory_is_not_taken_over(self, tmp_path):
        (tmp_path / "thesis.tex").write_text("x")
        with pytest.raises(StoreUnavailable, match=r"thesis\.tex"):
            DirectoryStore(tmp_path)
        assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]

    @pytest.mark.parametrize(
        "name",
        [
            "bodies/a.obj",
            "heads/b",
            "flights/c.part",
            "locks/d",
            "boot",
            "catalogue.sqlite",
            "CACHEDIR.TAG",
            "lost+found",
        ],
    )
    def test_a_folder_without_a_marker_is_no_store_whatever_its_names_look_like(
        self, tmp_path, name
    ):
        (tmp_path / "s" / name).parent.mkdir(parents=True)
        (tmp_path / "s" / name).write_text("x")
        for create in (True, False):
            with pytest.raises(StoreUnavailable, match="not a store") as caught:
                DirectoryStore(tmp_path / "s", create=create)
        assert str(tmp_path / "s") in caught.value.message
        assert [p.relative_to(tmp_path / "s") for p in tmp_path.rglob("*") if p.is_file()] == [
            Path(name)
        ]

    @pytest.mark.parametrize("name", ["bodies", "heads", "flights", "locks"])
    @pytest.mark.parametrize("marked", [True, False])
    def test_a_folder_in_which_a_link_lies_for_one_of_ours_is_refused(
        self, store, tmp_path, name, marked
    ):
        store.close()
        (tmp_path / "mine").mkdir()
        if marked:
            (store.root / name).symlink_to(tmp_path / "mine")
        else:
            (tmp_path / "data").mkdir()
            (tmp_path / "data" / name).symlink_to(tmp_path / "mine")
        with pytest.raises(StoreUnavailable, match=name) as caught:
            DirectoryStore(store.root if marked else tmp_path / "data")
        assert "ENTREPOT_STORE" in caught.value.hint
        assert list((tmp_path / "mine").iterdir()) == []

    def test_a_marker_that_is_a_link_makes_no_store(self, tmp_path):
        (tmp_path / "real").write_text("entrepot store, format 1\n")
        (tmp_path / "s").mkdir()
        (tmp_path / "s" / "entrepot-store").symlink_to(tmp_path / "real")
        with pytest.raises(StoreUnavailable):
            DirectoryStore(tmp_path / "s")

    def test_a_fresh_volume_is_empty(self, tmp_path):
        for name in ("lost+found", ".Trash-1000", ".Trashes", ".snapshot", ".snapshots"):
            (tmp_path / "s" / name).mkdir(parents=True)
        assert DirectoryStore(tmp_path / "s").put("a", b"x").size == 1

    def test_a_link_to_a_store_is_the_store(self, store, tmp_path):
        (tmp_path / "link").symlink_to(store.root)
        DirectoryStore(tmp_path / "link").put(body(b"x"), b"x")
        assert content(store, body(b"x")) == b"x"

    @pytest.mark.parametrize("where", ["bodies", "bodies/sha256", "bodies/sha256/{}"])
    def test_no_link_in_the_place_of_a_folder_is_followed(self, store, tmp_path, where):
        """Somebody puts it there while the store is open."""
        key = body(b"x")
        store.put(key, b"x")
        folder = store.root / where.format(key.split("/")[2])
        folder.rename(tmp_path / "moved")
        folder.symlink_to(tmp_path / "moved")
        before = {p: p.stat().st_mtime_ns for p in (tmp_path / "moved").rglob("*")}
        assert store.get(key) is None
        assert store.head(key) is None
        assert store.delete(key) is None
        assert list(store.list("bodies")) == []
        with store.hold(key):
            pass
        with pytest.raises(StoreUnavailable):
            store.put(key, b"y")
        store.sweep(time.time() + 10**6)
        assert {p: p.stat().st_mtime_ns for p in (tmp_path / "moved").rglob("*")} == before

    @pytest.mark.parametrize("suffix", ["part", "note", "lock"])
    def test_a_download_is_not_written_through_a_link(self, store, tmp_path, suffix):
        store.put("a", b"x")
        target = tmp_path / "work"
        target.write_bytes(b"work")
        (store.root / f"flights/f.{suffix}").symlink_to(target)
        flight = store.open_partial("f")
        with suppress(StoreUnavailable):
            flight.try_lock()
            flight.write(b"more")
            flight.state()
        flight.close()
        assert target.read_bytes() == b"work"

    def test_a_pipe_in_the_place_of_an_object_holds_nobody_up(self, store):
        store.put("heads/ab/cd/0", b"x")
        os.mkfifo(store.root / "heads/ab/cd/1")
        assert store.get("heads/ab/cd/1") is None

    def test_a_store_that_was_left_half_made_is_finished(self, tmp_path):
        (tmp_path / "s").mkdir()
        (tmp_path / "s" / "CACHEDIR.TAG").write_text(layout.TAG_TEXT)
        (tmp_path / "s" / "entrepot-store.0123456789ab").write_text("")
        assert DirectoryStore(tmp_path / "s").put("a", b"x").size == 1

    def test_a_store_that_is_not_there_is_not_made_unasked(self, tmp_path):
        with pytest.raises(StoreUnavailable, match="no store"):
            DirectoryStore(tmp_path / "s", create=False)
        assert not (tmp_path / "s").exists()

    @pytest.mark.parametrize(
        "key",
        [
            "CACHEDIR.TAG",
            "entrepot-store",
            "flights/x.part",
            "locks/users",
            "catalogue.sqlite",
            "boot",
        ],
    )
    def test_the_stores_own_files_are_no_objects(self, store, key):
        for call in (store.get, lambda key: store.put(key, b""), store.delete):
            with pytest.raises(FormatError):
                call(key)

    def test_a_symbolic_link_in_the_store_is_not_followed(self, store, tmp_path):
        store.put("heads/ab/cd/0", b"x")
        (tmp_path / "secret").write_text("secret")
        (store.root / "heads/ab/cd/1").symlink_to(tmp_path / "secret")
        with pytest.raises(StoreUnavailable):
            store.get("heads/ab/cd/1")
        assert [m.key for m in store.list("heads")] == ["heads/ab/cd/0"]


class TestWriting:
    def test_bodies_are_synced_before_they_get_their_name_and_heads_are_not(
        self, store, monkeypatch
    ):
        synced = []
        real = os.fsync
        store.put(
            "heads/ab/cd/0", b"w"
        )  # the first write marks the store as open, and that is synced
        monkeypatch.setattr(
            "os.fsync", lambda fd: (synced.append((store.root / body(b"x")).exists()), real(fd))
        )
        store.put("heads/ab/cd/0", b"x")
        assert synced == []
        store.put(body(b"x"), b"x")
        flight = store.open_partial("f")
        flight.try_lock()
        flight.write(b"y")
        flight.commit(body(b"y"))
        flight.close()
        assert synced == [False, True]

    def test_freed_bytes_are_what_the_file_system_says(self, store):
        keys = [
            stored(store, None, f"https://files.test/{i}", os.urandom(10_000 * i))
            for i in range(1, 5)
        ]
        before = disk_of(store.root)
        freed = sum(
            store.delete(key) or 0 for key in [*keys, *[m.key for m in store.list("bodies")]]
        )
        assert freed == pytest.approx(before - disk_of(store.root), rel=0.01)

    def test_an_object_with_another_name_gives_no_disk_back(self, store, tmp_path):
        store.put("a", b"x" * 9000)
        os.link(store.root / "a", tmp_path / "other")
        assert store.delete("a") == 0

    def test_last_use_is_coarse(self, tmp_path):
        now = [time.time()]
        store = DirectoryStore(tmp_path / "s", now=lambda: now[0])
        store.put("a", b"x")
        first = (store.root / "a").stat().st_mtime
        now[0] += 3500
        store.touch("a")
        assert (store.root / "a").stat().st_mtime == first
        now[0] += 3700
        store.touch("a")
        assert (store.root / "a").stat().st_mtime == pytest.approx(now[0])

    def test_a_touch_after_the_clock_was_set_back_mends_the_time(self, tmp_path):
        store = DirectoryStore(tmp_path / "s", now=lambda: time.time() - 86400)
        store.put("a", b"x")
        store.touch("a")
        assert (store.root / "a").stat().st_mtime == pytest.approx(time.time() - 86400, abs=5)

    def test_a_hold_waits_for_a_sweep_that_ends(self, store):
        code = (
            "import sys, time; from pathlib import Path; from entrepot.store.directory import DirectoryStore\n"
            "with DirectoryStore(Path(sys.argv[1])).hold(sys.argv[2], exclusive=True):\n"
            "    print('held', flush=True); time.sleep(0.4)"
        )
        key = body(b"x")
        child = subprocess.Popen(
            [sys.executable, "-c", code, store.root, key],
            env={"PYTHONPATH": SRC},
            stdout=subprocess.PIPE,
        )
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(Busy), store.hold(key, exclusive=True):
            pass
        with store.hold(body(b"another prefix"), exclusive=True):
            pass
        with store.hold(key):
            pass
        assert child.wait() == 0
        child.stdout.close()


class TestAfterACrash:
    @pytest.fixture
    def boot(self, monkeypatch):
        names = ["boot-1"]
        monkeypatch.setattr(layout, "boot_id", lambda: names[0])
        return names

    def opened(self, store):
        return DirectoryStore(store.root, cap=10**9)

    def crashed(self, store):
        """As if the power went: the process does not close, its locks are gone."""
        os.close(store._users)
        store._users = -1

    def begun(self, store):
        """A download that broke off a minute ago, never synced."""
        flight = store.open_partial("f")
        flight.try_lock()
        flight.write(b"half")
        flight.set_state(b"note")
        flight.close()
        age(store.root / "flights" / "f.part", 60)

    def resumed(self, store):
        """What the next leader of that download finds."""
        flight = store.open_partial("f")
        assert flight.try_lock()
        found = flight.size(), flight.state()
        flight.close()
        return found

    def test_in_the_boot_that_wrote_it_a_partial_download_is_resumed(self, boot, store):
        self.begun(store)
        self.crashed(store)
        assert self.resumed(self.opened(store)) == (4, b"note")

    def test_after_an_unclean_boot_it_is_not_also_when_others_have_closed_since(self, boot, store):
        """Its bytes were never synced.

        Some may be zeros, and without a digest nobody would notice.
        """
        self.begun(store)
        self.crashed(store)
        boot[0] = "boot-2"
        again = self.opened(store)
        again.put(body(b"z"), b"z")
        again.close()
        boot[0] = "boot-3"
        assert self.resumed(self.opened(store)) == (0, None)

    def test_a_body_is_served_after_any_boot_unless_its_file_has_changed(self, boot, store):
        """It was synced before it got its name."""
        for data in (b"x", b"z"):
            store.put(body(data), data)
        self.crashed(store)
        boot[0] = "boot-2"
        (store.root / body(b"x")).write_bytes(b"y")
        again = self.opened(store)
        assert content(again, body(b"x")) is None
        assert content(again, body(b"z")) == b"z"

    def test_after_a_clean_end_a_partial_download_is_resumed(self, boot, store):
        self.begun(store)
        store.close()
        boot[0] = "boot-2"
        assert self.resumed(self.opened(store)) == (4, b"note")

    def test_what_a_killed_process_left_is_synced_before_the_store_is_called_clean(
        self, boot, store, monkeypatch
    ):
        self.begun(store)
        self.crashed(store)
        again, synced = self.opened(store), []
        again.put("a", b"x")
        real = os.fsync

        def sync(fd):
            synced.append(os.readlink(f"/proc/self/fd/{fd}"))
            real(fd)

        monkeypatch.setattr(os, "fsync", sync)
        again.close()
        assert str(store.root / "flights/f.part") in synced
        assert " clean " in (store.root / "boot").read_text()
        boot[0] = "boot-2"
        assert self.resumed(self.opened(store)) == (4, b"note")

    def test_it_is_clean_after_many_threads_have_begun_to_write_at_once(self, store, monkeypatch):
        real = disk.open_lock_file

        def slow(*args):
            time.sleep(0.05)
            return real(*args)

        monkeypatch.setattr(disk, "open_lock_file", slow)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: store.put(f"heads/ab/{i}/0", b"x"), range(8)))
        store.close()
        assert " clean " in (store.root / "boot").read_text()

    def test_it_is_clean_only_when_the_last_writer_has_closed(self, boot, store):
        other = self.opened(store)
        store.put(body(b"x"), b"x")
        other.put(body(b"y"), b"y")
        store.close()
        assert " open " in (store.root / "boot").read_text()
        other.close()
        assert " clean " in (store.root / "boot").read_text()

    def test_a_clock_set_back_over_the_boot_hides_nothing(self, boot, store):
        self.begun(store)
        self.crashed(store)
        boot[0] = "boot-2"
        yesterday = DirectoryStore(store.root, now=lambda: time.time() - 86400)
        assert self.resumed(yesterday) == (0, None)

    def test_a_marker_that_was_lost_or_damaged_puts_all_in_doubt(self, boot, store):
        for damage in (lambda p: p.write_bytes(b"\0" * 40), lambda p: p.unlink()):
            self.begun(store)
            store.close()
            damage(store.root / "boot")
            assert self.resumed(self.opened(store)) == (0, None)

    def test_files_that_were_emptied_by_a_power_cut_are_misses_not_errors(self, boot, store):
        """Renames kept, bytes lost: of everything that was not synced."""
        key = stored(store, None, "https://files.test/a", b"a")
        for name in (key, "boot"):
            (store.root / name).write_bytes(b"")
        self.crashed(store)
        boot[0] = "boot-2"
        swept = self.opened(store).sweep(time.time() + 7200)
        assert (swept.heads, swept.bodies) == (1, 1)
        assert files(store.root) == []

    def test_the_marker_is_synced_when_a_store_is_made(self, tmp_path, monkeypatch):
        synced = []
        real = os.fsync
        monkeypatch.setattr("os.fsync", lambda fd: (synced.append(fd), real(fd)))
        DirectoryStore(tmp_path / "new")
        assert len(synced) == 4, "tag and marker, and the folder after each"


CHANGES = {
    "written to": lambda path: path.write_bytes(b"evil"),
    "written to, its time put back": lambda path: (
        times := (path.stat().st_atime_ns, path.stat().st_mtime_ns),
        path.write_bytes(b"evil"),
        os.utime(path, ns=times),
    ),
    "replaced": lambda path: (path.unlink(), path.write_bytes(b"evil")),
    "replaced in one step": lambda path: (
        path.with_name("x").write_bytes(b"evil") and path.with_name("x").replace(path)
    ),
    "cut": lambda path: path.write_bytes(b"go"),
}
HARMLESS = {
    "read": lambda path: path.read_bytes(),
    "touched": lambda path: path.touch(),
    "linked": lambda path: os.link(path, path.parents[4] / "other"),
    "made readable": lambda path: path.chmod(0o644),
    "copied": lambda path: (
        path.rename(path.with_name("x")),
        path.write_bytes(path.with_name("x").read_bytes()),
    ),
}


class TestChangedBodies:
    @pytest.fixture
    def catalogue(self, tmp_path):
        catalogue = SqliteCatalogue(tmp_path / "catalogue.sqlite")
        yield catalogue
        catalogue.close()

    @pytest.fixture
    def key(self):
        return body(b"good")

    @pytest.fixture
    def store(self, tmp_path, catalogue, key):
        store = DirectoryStore(tmp_path / "store", cap=10**9, stamps=catalogue)
        store.put(key, b"good")
        return store

    @pytest.fixture
    def hashed(self, monkeypatch):
        """The bodies that are hashed, one each time."""
        seen = []

        class Counted(directory.Hasher):
            def __init__(self):
                super().__init__()
                seen.append(self)

        monkeypatch.setattr(directory, "Hasher", Counted)
        return seen

    @pytest.mark.parametrize("again", [False, True], ids=["same process", "another"])
    @pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
    def test_a_body_that_was_changed_is_absent_and_removed(
        self, store, catalogue, key, change, again
    ):
        change(store.root / key)
        store = DirectoryStore(store.root, stamps=catalogue) if again else store
        assert store.get(key) is None
        assert not (store.root / key).exists()
        assert store.changed == {key}

    @pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS)
    def test_a_body_whose_file_alone_was_changed_is_hashed_once(
        self, store, catalogue, key, hashed, change
    ):
        change(store.root / key)
        for _ in "12":
            assert content(store, key) == b"good"
        assert content(DirectoryStore(store.root, stamps=catalogue), key) == b"good"
        assert len(hashed) <= 1
        assert store.changed == set()

    def test_what_was_stored_is_not_hashed_again_by_any_process(
        self, store, catalogue, key, hashed, tmp_path
    ):
        flight = store.open_partial("f")
        flight.try_lock()
        flight.write(b"flown")
        flight.commit(body(b"flown"))
        flight.close()
        (tmp_path / "theirs").write_bytes(b"taken")
        for _ in "12":  # the second time both names are already one file's
            store.adopt(tmp_path / "theirs", 0, 5, lambda _read, _size: body(b"taken"), link=True)
        for each in (store, DirectoryStore(store.root, stamps=catalogue)):
            for data in (b"good", b"flown", b"taken"):
                with each.hold(body(data)):
                    assert content(each, body(data)) == data
        assert hashed == []

    def test_without_stamps_a_body_is_hashed_once_in_a_process(self, store, key, hashed):
        other = DirectoryStore(store.root)
        for _ in "123":
            assert content(other, key) == b"good"
        assert len(hashed) == 1

    def test_many_who_ask_at_the_same_time_hash_it_once(self, store, key, hashed):
        other = DirectoryStore(store.root)
        with ThreadPoolExecutor(20) as pool:
            for blob in pool.map(other.get, [key] * 20):
                blob.close()
        assert len(hashed) == 1

    def test_a_right_download_replaces_what_was_changed(self, store, key, tmp_path):
        (tmp_path / "theirs").write_bytes(b"good")

        def commit():
            flight = store.open_partial("f")
            flight.try_lock()
            flight.write(b"good")
            flight.commit(key)
            flight.close()

        for come in (commit, lambda: store.adopt(tmp_path / "theirs", 0, 4, lambda *_: key)):
            (store.root / key).write_bytes(b"evil")
            come()
            assert content(store, key) == b"good"
        assert store.changed == set()

    def test_a_wrong_body_stays_where_it_may_not_be_removed_and_is_never_served(self, store, key):
        (store.root / key).write_bytes(b"evil")
        with store.hold(key):
            assert store.get(key) is None
        assert (store.root / key).exists()
        assert store.get(key) is None
        assert not (store.root / key).exists()

    def test_a_sweep_does_not_make_bodies_be_hashed_again_and_forgets_those_that_went(
        self, store, catalogue, hashed
    ):
        stored(store, catalogue, "https://files.test/a", b"a")
        store.sweep(time.time() + 7200, catalogue=catalogue)
        assert content(store, body(b"a")) == b"a"
        assert hashed == []
        assert catalogue.stamp(body(b"a"))
        assert catalogue.stamp(body(b"good")) is None


class TestFlights:
    def test_nothing_is_left_of_a_flight_that_wrote_nothing(self, store):
        flight = store.open_partial("f")
        flight.try_lock()
        flight.set_state(b"note")
        flight.close()
        assert files(store.root) == []

    def test_nothing_but_the_body_is_left_of_one_that_was_committed(self, store):
        flight = store.open_partial("f")
        flight.try_lock()
        flight.write(b"x")
        flight.set_state(b"note")
        flight.commit(body(b"x"))
        flight.close()
        assert files(store.root) == [body(b"x")]

    def test_a_part_that_is_also_a_body_is_never_appended_to(self, store):
        """Whatever a crash or a copying tool has linked: the body stays as it is."""
        store.put(body(b"x"), b"x")
        os.link(store.root / body(b"x"), store.root / "flights" / "f.part")
        flight = store.open_partial("f")
        flight.try_lock()
        assert flight.size() == 0
        flight.write(b"more")
        flight.close()
        assert content(store, body(b"x")) == b"x"

    def test_giving_up_the_lock_waits_for_no_disk(self, store, monkeypatch):
        """It is done on the event loop; what was written is synced when the store is closed."""
        file = store.open_partial("f")
        assert file.try_lock()
        file.write(b"half")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", lambda _fd: pytest.fail("synced"))
            file.close()
        assert store.open_partial("f").size() == 4

    def test_a_note_without_its_part_is_not_believed(self, store):
        flight = store.open_partial("f")
        flight.try_lock()
        flight.write(b"x")
        flight.set_state(b"old")
        flight.close()
        (store.root / "flights" / "f.part").unlink()
        flight = store.open_partial("f")
        flight.try_lock()
        assert flight.state() is None
        flight.close()

    def test_a_lock_file_that_was_removed_under_a_waiter_gives_no_second_lead(self, store):
        first, second = store.open_partial("f"), store.open_partial("f")
        first.try_lock()
        (store.root / "flights" / "f.lock").unlink()
        assert second.try_lock(), "the old file is nobody's business any more"
        third = store.open_partial("f")
        assert not third.try_lock()
        for each in (first, second, third):
            each.close()

    def test_a_body_just_committed_is_in_use_until_its_flight_is_closed(self, store, tmp_path):
        catalogue = SqliteCatalogue(None)
        catalogue.rebuild(store)
        key = stored(store, catalogue, "https://files.test/a", b"a" * 50_000, used=1)
        flight = store.open_partial("f")
        flight.try_lock()
        flight.write(b"b" * 50_000)
        flight.commit(body(b"b" * 50_000))
        head = head_of("https://files.test/b", b"b" * 50_000)
        catalogue.record("heads/00/b/0", head, used=0, disk=53_248)
        small = DirectoryStore(store.root, cap=1)
        done = small.evict(catalogue)
        assert (done.bodies, done.kept) == (1, 1)
        assert store.get(key) is None
        assert content(store, body(b"b" * 50_000)) == b"b" * 50_000
        flight.close()


class TestFailingDisks:
    @pytest.mark.parametrize("number", [28, 122], ids=["ENOSPC", "EDQUOT"])
    @pytest.mark.parametrize("call", ["os.pwrite", "os.fsync", "os.replace"])
    def test_no_room_is_told_apart_and_leaves_nothing(self, store, monkeypatch, call, number):
        store.put("a", b"old")

        def fail(*_, **_more):
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr(call, fail)
            with pytest.raises(StoreFull):
                store.put(body(b"new"), b"new")
        assert files(store.root) == []
        assert content(store, "a") == b"old"

    def test_no_room_to_note_the_boot_stops_writers_and_nobody_who_removes(
        self, tmp_path, monkeypatch
    ):
        before = DirectoryStore(tmp_path / "s")
        before.put(body(b"old"), b"old")
        before.close()
        clean = (tmp_path / "s/boot").read_bytes()
        store = DirectoryStore(tmp_path / "s")

        def full(*_args, **_more):
            raise OSError(28, os.strerror(28))

        with monkeypatch.context() as patch:
            patch.setattr(layout, "write_small", full)
            with store.hold(body(b"old"), exclusive=True):
                assert store.delete(body(b"old"))
            flight = store.open_partial("f")
            assert flight.try_lock()
            with pytest.raises(StoreFull):
                flight.write(b"new")
            flight.close()
            with pytest.raises(StoreFull):
                store.put("a", b"new")
        assert (tmp_path / "s/boot").read_bytes() == clean
        store.put("a", b"new")
        assert b" open " in (tmp_path / "s/boot").read_bytes()
        store.close()

    @pytest.mark.parametrize("number", [5, 13, 30, 24], ids=["EIO", "EACCES", "EROFS", "EMFILE"])
    def test_anything_else_is_unavailable(self, store, monkeypatch, number):
        def fail(*_, **_more):
            raise OSError(number, os.strerror(number))

        store.put("a", b"old")
        with monkeypatch.context() as patch:
            patch.setattr("os.replace", fail)
            with pytest.raises(StoreUnavailable):
                store.put("a", b"new")
        assert files(store.root) == []
        assert content(store, "a") == b"old"

    def test_of_a_write_that_fails_nothing_counts(self, store, monkeypatch):
        flight = store.open_partial("f")
        flight.try_lock()
        flight.write(b"abc")
        real = os.pwrite

        def half(fd, data, offset):
            if offset > 3:
                raise OSError(28, "No space left on device")
            return real(fd, data[:2], offset)

        with monkeypatch.context() as patch:
            patch.setattr("os.pwrite", half)
            with pytest.raises(StoreFull):
                flight.write(b"defgh")
        assert flight.size() == 3
        assert (store.root / "flights" / "f.part").stat().st_size == 3
        flight.write(b"DEF")
        assert flight.read(0, 9) == b"abcDEF"
        flight.close()

    def test_a_commit_that_fails_keeps_the_part(self, store, monkeypatch):
        flight = store.open_partial("f")
        flight.try_lock()
        flight.write(b"abc")

        def fail(*_, **_more):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", fail)
            with pytest.raises(StoreFull):
                flight.commit(body(b"abc"))
        flight.commit(body(b"abc"))
        flight.close()
        assert content(store, body(b"abc")) == b"abc"


def test_a_body_key_is_what_the_heads_say():
    assert body(b"x") == body_key(digest(b"x"))
