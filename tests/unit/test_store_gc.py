"""Sweeping and evicting a directory store."""

from __future__ import annotations

import os
import threading
import time

import pytest

from entrepot.digests import Digest
from entrepot.store.catalogue import SqliteCatalogue
from entrepot.store.directory import DirectoryStore
from entrepot.store.gc import PARTIAL_S
from entrepot.stored import body_key, cache_key
from entrepot.testing.store_suite import body, content
from unit.storing import age, digest, disk_of, files, stored

HOUR = 3600
HEAD = f"heads/ab/{'c' * 62}/"


@pytest.fixture
def store(tmp_path):
    store = DirectoryStore(tmp_path / "store", cap=10**9)
    yield store
    store.close()


@pytest.fixture
def catalogue(store):
    catalogue = SqliteCatalogue(store.root / "catalogue.sqlite")
    catalogue.rebuild(store)
    yield catalogue
    catalogue.close()


def url(name) -> str:
    return f"https://files.test/{name}"


class TestSweep:
    def test_a_store_in_order_loses_nothing(self, store, catalogue):
        stored(store, catalogue, url("a"), b"a")
        stored(store, catalogue, url("404"), None)
        before = files(store.root)
        swept = store.sweep(time.time() + 2 * HOUR, catalogue=catalogue)
        assert (swept.freed, swept.bodies, swept.heads, swept.temps, swept.partials) == (
            0,
            0,
            0,
            0,
            0,
        )
        assert files(store.root) == before

    def test_orphans_go_once_they_are_old(self, store):
        store.put(body(b"orphan" * 999), b"orphan" * 999)
        assert store.sweep(time.time()).bodies == 0
        before = disk_of(store.root / "bodies")
        swept = store.sweep(time.time() + 2 * HOUR)
        assert swept.bodies == 1
        assert swept.freed == before - disk_of(store.root / "bodies")
        assert files(store.root) == []

    def test_a_body_that_is_being_named_stays(self, store):
        """Between the writer's look and its head's rename no sweep takes the body, however old it is."""
        store.put(body(b"x"), b"x")
        age(store.root / body(b"x"), 3 * HOUR)
        with store.hold(body(b"x")):
            assert store.sweep(time.time()).bodies == 0
        assert store.sweep(time.time()).bodies == 0, "wanted a moment ago"
        age(store.root / body(b"x"), 3 * HOUR)
        assert store.sweep(time.time()).bodies == 1

    def test_a_head_that_names_a_missing_body_goes_and_the_catalogue_hears_of_it(
        self, store, catalogue
    ):
        key = stored(store, catalogue, url("a"), b"a")
        (store.root / body(b"a")).unlink()
        assert store.sweep(time.time(), catalogue=catalogue).heads == 0
        assert store.sweep(time.time() + 2 * HOUR, catalogue=catalogue).heads == 1
        assert store.head(key) is None
        assert list(catalogue.listing()) == []

    @pytest.mark.parametrize(
        "damage",
        [b"", b"{", b"[]", b"\0" * 99, b'{"format":1}', b'{"format":1,"body":"md5:1"}'],
        ids=ascii,
    )
    def test_a_head_that_cannot_be_read_goes(self, store, damage):
        store.put(f"{HEAD}0", damage)
        assert store.sweep(time.time() + 2 * HOUR).heads == 1
        assert files(store.root) == []

    def test_heads_of_a_later_format_stay_with_their_bodies(self, store):
        store.put(body(b"x"), b"x")
        store.put(f"{HEAD}0", b'{"format":2,"body":"%s"}' % str(digest(b"x")).encode())
        store.put(f"{HEAD}{'1' * 16}", b'{"format":2,"content":{}}')
        swept = store.sweep(time.time() + 2 * HOUR)
        assert (swept.heads, swept.bodies) == (0, 0)

    def test_stale_temporary_files_go_and_fresh_ones_stay(self, store):
        store.put("a", b"x")
        stale, fresh = (store.root / "flights" / f"put-{digit * 16}.tmp" for digit in "12")
        for path in (stale, fresh):
            path.write_bytes(b"x" * 5000)
        age(stale, 2 * HOUR)
        assert store.sweep(time.time()).temps == 1
        assert files(store.root) == [f"flights/{fresh.name}"]

    def test_a_partial_download_goes_after_seven_days_unless_somebody_leads_it(self, store):
        led_name, left_name = "1" * 40, "2" * 40
        for name in (led_name, left_name):
            flight = store.open_partial(name)
            flight.try_lock()
            flight.write(b"x" * 5000)
            flight.set_state(b"note")
            if name == left_name:
                flight.close()
            else:
                led = flight
        assert store.sweep(time.time() + PARTIAL_S - HOUR).partials == 0
        swept = store.sweep(time.time() + PARTIAL_S + HOUR)
        assert swept.partials == 1
        assert swept.freed >= 8192
        left = [f"flights/{led_name}.{suffix}" for suffix in ("lock", "note", "part")]
        assert files(store.root) == left
        led.close()

    def test_notes_and_locks_without_a_part_are_litter(self, store):
        store.put("a", b"x")
        a, b = "a" * 40, "b" * 40
        for name in (f"{a}.note", f"{a}.lock", f"{b}.lock", f"{b}.host-1.lock"):
            (store.root / "flights" / name).write_bytes(b"")
            age(store.root / "flights" / name, 2 * HOUR)
        store.sweep(time.time())
        assert files(store.root) == []

    def test_what_is_not_ours_by_its_name_and_place_stays(self, store, catalogue):
        key = stored(store, catalogue, url("a"), b"a")
        names = [
            "bodies/a",
            f"bodies/{'0' * 64}",
            f"bodies/md5/00/{'0' * 62}",
            f"bodies/sha256/{'0' * 62}",
            f"bodies/sha256/00/{'0' * 61}",
            f"bodies/sha256/00/{'0' * 62}.bak",
            f"bodies/sha256/00/{'0' * 62}0/x",
            "heads/a",
            f"heads/00/{'0' * 62}/1",
            f"heads/00/{'0' * 62}/notes.txt",
            f"heads/00/{'0' * 62}/sub/0",
            f"{key}.bak",
            "flights/film.part",
            "flights/a.tmp",
            f"flights/{'0' * 40}.tmp",
            f"flights/{'0' * 40}.part.bak",
            f"flights/sub/{'0' * 40}.part",
            "locks/x",
            "bodies/my work/notes",
            "mine/work",
        ]
        for name in names:
            (store.root / name).parent.mkdir(parents=True, exist_ok=True)
            (store.root / name).write_bytes(b"work")
            age(store.root / name, 10**7)
        (store.root / "bodies/sha256/empty").mkdir()
        (store.root / f"flights/{'1' * 40}.part").symlink_to(store.root / "mine/work")
        swept = store.sweep(time.time() + 10**7, catalogue=catalogue)
        assert (swept.bodies, swept.heads, swept.temps, swept.partials) == (0, 0, 0, 0)
        assert [name for name in names if not (store.root / name).exists()] == []
        assert (store.root / "bodies/sha256/empty").is_dir()
        assert (store.root / f"flights/{'1' * 40}.part").is_symlink()
        assert [row.key for row in catalogue.listing()] == [key]

    def test_a_body_that_a_strange_file_names_stays(self, store):
        store.put(body(b"x"), b"x")
        store.put("heads/ab/later", b'{"format":2,"body":"%s"}' % str(digest(b"x")).encode())
        assert store.sweep(time.time() + 2 * HOUR).bodies == 0

    def test_it_puts_the_catalogue_right(self, store, catalogue):
        """A process was killed between the head's rename and its record."""
        key = stored(store, None, url("a"), b"a")
        store.sweep(time.time(), catalogue=catalogue)
        assert [row.key for row in catalogue.listing()] == [key]


class TestUsage:
    def test_the_catalogue_and_a_scan_agree_with_the_file_system(self, store, catalogue):
        for i in range(20):
            stored(store, catalogue, url(i), os.urandom(20_000 + 1000 * (i % 7)))
        stored(store, catalogue, url("404"), None)
        flight = store.open_partial("f")
        flight.try_lock()
        flight.write(os.urandom(50_000))
        quick, slow = store.usage(catalogue), store.usage()
        assert quick == slow
        assert quick.bodies == sum(m.disk for m in store.list("bodies"))
        assert quick.partials >= 50_000, "partial downloads count"
        flight.close()

    def test_a_body_of_two_urls_counts_once(self, store, catalogue):
        for name in "ab":
            stored(store, catalogue, url(name), b"x" * 5000)
        assert store.usage(catalogue).bodies == 8192 == store.usage().bodies


class TestEvict:
    @pytest.fixture
    def filled(self, store, catalogue):
        """Ten bodies of 100 KB, the higher the number the later used."""
        base = time.time() - 10_000
        self.data = [bytes([i]) * 100_000 for i in range(10)]
        return [
            stored(store, catalogue, url(i), self.data[i], used=base + i * 10) for i in range(10)
        ]

    def small(self, store, cap):
        return DirectoryStore(store.root, cap=cap)

    def test_nothing_goes_while_there_is_room(self, store, catalogue, filled):
        assert store.evict(catalogue).freed == 0
        assert len(list(catalogue.listing())) == 10

    def test_least_recently_used_go_until_it_fits_and_the_bytes_are_true(
        self, store, catalogue, filled
    ):
        cap = store.usage(catalogue).total - 150_000
        before = disk_of(store.root / "bodies") + disk_of(store.root / "heads")
        done = self.small(store, cap).evict(catalogue)
        left = sorted(row.key for row in catalogue.listing())
        assert left == sorted(filled[done.bodies :])
        assert done.bodies >= 2
        assert done.freed == pytest.approx(
            before - disk_of(store.root / "bodies") - disk_of(store.root / "heads"), rel=0.01
        )
        assert store.usage().total <= cap
        assert [store.head(k) is None for k in filled] == [i < done.bodies for i in range(10)]

    def test_bodies_that_another_cache_has_linked_free_nothing_and_do_not_cost_others_their_place(
        self, store, catalogue, filled, tmp_path
    ):
        for number, data in enumerate(self.data[:5]):
            key = body_key(digest(data))
            os.link(store.root / key, tmp_path / str(number))
        cap = store.usage(catalogue).total - 150_000
        done = self.small(store, cap).evict(catalogue)
        assert [store.head(k) is None for k in filled] == [i < done.bodies for i in range(10)]
        assert 2 <= done.bodies <= 4
        assert done.freed < 100_000
        assert store.usage().total <= cap

    def test_room_that_is_needed_is_made(self, store, catalogue, filled):
        cap = store.usage(catalogue).total + 10_000
        small = self.small(store, cap)
        assert small.evict(catalogue).bodies == 0
        small.evict(catalogue, needed=300_000)
        assert store.usage().total + 300_000 <= cap

    def test_the_files_time_decides_not_the_catalogues(self, store, catalogue, filled):
        os.utime(store.root / filled[0], (time.time(), time.time()))
        done = self.small(store, store.usage(catalogue).total - 150_000).evict(catalogue)
        assert done.bodies >= 2
        assert store.head(filled[0]) is not None
        assert store.head(filled[1]) is None

    def test_it_goes_in_the_files_order(self, store, catalogue, filled):
        """The catalogue knows of none of the uses."""
        base = time.time() - 5000
        for i, key in enumerate(filled):
            os.utime(store.root / key, (base - 10 * i, base - 10 * i))
        done = self.small(store, store.usage(catalogue).total - 350_000).evict(catalogue)
        assert 4 <= done.bodies <= 5
        assert [store.head(k) is None for k in filled] == [i >= 10 - done.bodies for i in range(10)]
        assert done.room >= 0

    def test_many_old_bodies_in_use_do_not_hide_the_others(self, store, catalogue, filled):
        blobs = [store.get(body(data)) for data in self.data[:5]]
        small = self.small(store, store.usage(catalogue).total - 350_000)
        done = small.evict(catalogue)
        assert done.room >= 0
        assert [store.head(k) is None for k in filled[:5]] == [False] * 5
        for blob in blobs:
            blob.close()

    def test_when_all_is_in_use_it_says_how_much_too_big_the_store_is(
        self, store, catalogue, filled
    ):
        blobs = [store.get(body(data)) for data in self.data]
        done = self.small(store, 100_000).evict(catalogue)
        assert (done.bodies, done.kept) == (0, 10)
        assert done.room < -900_000
        for blob in blobs:
            blob.close()

    def test_an_open_body_is_not_taken_and_goes_when_it_is_closed(self, store, catalogue, filled):
        blob = store.get(body(self.data[0]))
        small = self.small(store, store.usage(catalogue).total - 50_000)
        done = small.evict(catalogue)
        assert done.kept == 1
        assert store.head(filled[0]) is not None
        assert store.head(filled[1]) is None
        blob.close()
        assert self.small(store, 1).evict(catalogue).bodies == 10 - done.bodies

    def test_a_body_whose_prefix_is_held_waits_for_the_next_time(self, store, catalogue, filled):
        with store.hold(body(self.data[0])):
            self.small(store, store.usage(catalogue).total - 50_000).evict(catalogue)
        assert content(store, body(self.data[0])) == self.data[0]

    def test_a_head_that_came_meanwhile_saves_its_body(self, store, catalogue, filled, monkeypatch):
        """Another process stores a second URL of the body after the choice was made."""
        from entrepot.store import gc

        real = gc.victims

        def late(*args, **kwargs):
            chosen = real(*args, **kwargs)
            stored(store, catalogue, url("second"), self.data[0])
            return chosen

        monkeypatch.setattr(gc, "victims", late)
        self.small(store, store.usage(catalogue).total - 50_000).evict(catalogue)
        assert content(store, body(self.data[0])) == self.data[0]
        assert store.head(cache_key(url("second")) + "/0") is not None

    def test_a_body_goes_with_all_its_heads(self, store, catalogue):
        for name in "ab":
            stored(store, catalogue, url(name), b"x" * 100_000, used=1000)
        done = self.small(store, 1).evict(catalogue)
        assert (done.bodies, done.heads) == (1, 2)
        assert files(store.root) == []

    def test_a_reader_in_the_middle_reads_on(self, store, catalogue, filled):
        """An open descriptor without a lock on it, as a follower's.

        The name goes, the bytes stay.
        """
        fd = os.open(store.root / body(self.data[0]), os.O_RDONLY)
        self.small(store, 1).evict(catalogue)
        assert files(store.root) == []
        assert os.pread(fd, 200_000, 0) == self.data[0]
        os.close(fd)

    def test_without_a_catalogue_it_makes_one_first(self, store, catalogue, filled):
        small = self.small(store, store.usage().total - 150_000)
        done = small.evict(SqliteCatalogue(None))
        assert done.bodies >= 2
        assert store.head(filled[0]) is None
        assert store.head(filled[9]) is not None

    def test_only_one_evicts_at_a_time(self, store, catalogue, filled):
        small = self.small(store, 1)
        with store.lock("evict", exclusive=True, wait_s=0):
            assert small.evict(catalogue).bodies == 0
        assert small.evict(catalogue).bodies == 10

    def test_eviction_beside_a_writer_never_leaves_a_head_without_its_body(self, store, catalogue):
        """A sweep afterwards finds nothing to mend."""
        stop = threading.Event()
        small = self.small(store, 2_000_000)

        def evicting():
            while not stop.is_set():
                small.evict(catalogue)

        thread = threading.Thread(target=evicting)
        thread.start()
        try:
            for i in range(150):
                stored(store, catalogue, url(i % 60), bytes([i % 25]) * 150_000)
        finally:
            stop.set()
            thread.join()
        for head in store.list("heads"):
            named = next(row.body for row in catalogue.listing() if row.key == head.key)
            assert store.head(body_key(Digest.parse(named))) is not None
        small.evict(catalogue)
        assert store.usage().total <= 2_000_000
        swept = store.sweep(time.time() + 2 * HOUR)
        assert (swept.heads, swept.bodies) == (0, 0)


class TestDailySweep:
    def orphan(self, store, name):
        store.put(body(name), name)
        age(store.root / body(name), 3 * HOUR)

    def test_it_is_done_once_a_day(self, tmp_path, catalogue, store):
        now = time.time()
        clock = [now]
        store = DirectoryStore(store.root, cap=10**9, now=lambda: clock[0])
        self.orphan(store, b"a")
        assert store.sweep_when_due(catalogue).bodies == 1
        self.orphan(store, b"b")
        for later in (10, 23 * HOUR):
            clock[0] = now + later
            assert store.sweep_when_due(catalogue) is None
        clock[0] = now + 25 * HOUR
        assert store.sweep_when_due(catalogue).bodies == 1
        store.close()

    def test_a_clock_that_was_set_back_does_not_put_it_off(self, catalogue, store):
        assert store.sweep_when_due(catalogue) is not None
        later = time.time() + 40 * 86400
        os.utime(store.root / "locks" / "swept", (later, later))
        self.orphan(store, b"a")
        assert store.sweep_when_due(catalogue).bodies == 1

    def test_one_that_is_broken_off_is_begun_again_in_an_hour(self, catalogue, store):
        clock = [time.time()]
        store = DirectoryStore(store.root, cap=10**9, now=lambda: clock[0])
        stored(store, catalogue, url("a"), b"a")
        self.orphan(store, b"orphan")
        assert store.sweep_when_due(catalogue, is_over=lambda: True) is None
        assert store.head(body(b"orphan")) is not None
        clock[0] += 600
        assert store.sweep_when_due(catalogue) is None
        clock[0] += HOUR
        assert store.sweep_when_due(catalogue).bodies == 1
        store.close()

    def test_only_one_process_sweeps(self, catalogue, store):
        with store.lock("sweep", exclusive=True, wait_s=0):
            assert store.sweep_when_due(catalogue) is None
        assert store.sweep_when_due(catalogue) is not None
