"""The catalogue: what it keeps, and that losing it, damaging it or locking it is nobody's trouble."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import clients
from entrepot.digests import LENGTHS, Digest
from entrepot.ports.catalogue import Catalogue, Link
from entrepot.store import layout
from entrepot.store.catalogue import VERSION, SqliteCatalogue, link_row, open_catalogue, unpack_link
from entrepot.store.directory import DirectoryStore
from entrepot.stored import body_key, cache_key
from entrepot.testing.memory_store import MemoryStore
from stopwatch import Stopwatch
from unit.storing import NOW, digest, head_of, stored

SRC = str(Path(layout.__file__).parents[2])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "catalogue.sqlite"


@pytest.fixture
def catalogue(path):
    catalogue = SqliteCatalogue(path)
    yield catalogue
    catalogue.close()


def links(count: int, source: str = "heads/ab/cd/0") -> list[Link]:
    return [
        Link(
            url=f"https://files.test/packages/ab/cd/{i:060x}/numpy-1.{i}-cp311-cp311-manylinux_2_17_x86_64.whl",
            digests=(Digest("sha256", f"{i:064x}"),),
            size=18_000_000 + i,
            project="numpy",
            version=f"1.{i}",
            filename=f"numpy-1.{i}-cp311-cp311-manylinux_2_17_x86_64.whl",
            kind="wheel",
            upload_time="2026-01-01T00:00:00.000000Z",
            source=source,
        )
        for i in range(count)
    ]


class TestHeads:
    def test_the_listing_has_what_lists_show(self, catalogue):
        head = head_of(
            "https://files.test/a.whl",
            b"a",
            project="a",
            version="1",
            filename="a.whl",
            kind="wheel",
            proven=(digest(b"a"),),
        )
        catalogue.record("heads/ab/cd/0", head, used=5.5, disk=4096)
        catalogue.record(
            "heads/ab/ce/0",
            head_of("https://files.test/b", None, credentialed=True, shared=True),
            used=6,
            disk=0,
        )
        first, second = catalogue.listing()
        assert (first.url, first.kind, first.project, first.version, first.filename) == (
            head.url,
            "wheel",
            "a",
            "1",
            "a.whl",
        )
        assert (first.size, first.disk, first.body, first.used, first.response_time) == (
            1,
            4096,
            str(digest(b"a")),
            5.5,
            NOW,
        )
        assert (first.status, first.proven, first.credentialed, first.shared) == (200, 1, 0, 0)
        assert (
            second.status,
            second.body,
            second.size,
            second.proven,
            second.credentialed,
            second.shared,
        ) == (
            404,
            None,
            None,
            0,
            1,
            1,
        )

    def test_recording_again_replaces(self, catalogue):
        for used in (1, 2):
            catalogue.record(
                "heads/ab/cd/0", head_of("https://files.test/a", b"%d" % used), used=used, disk=4096
            )
        assert [row.used for row in catalogue.listing()] == [2]
        assert catalogue.heads_of(digest(b"1")) == []
        assert catalogue.heads_of(digest(b"2")) == ["heads/ab/cd/0"]

    def test_forgotten_heads_are_gone(self, catalogue):
        for i in range(3):
            catalogue.record(
                f"heads/ab/{i}/0", head_of(f"https://files.test/{i}", b"x"), used=1, disk=4096
            )
        catalogue.forget(["heads/ab/0/0", "heads/ab/2/0", "heads/no/such/0"])
        assert [row.key for row in catalogue.listing()] == ["heads/ab/1/0"]
        assert catalogue.heads_of(digest(b"x")) == ["heads/ab/1/0"]

    def test_sizes_count_a_body_once_and_every_head(self, catalogue):
        for i, (data, kind) in enumerate(
            [(b"x", "wheel"), (b"x", "wheel"), (b"y", "wheel"), (b"z", "page"), (None, "page")]
        ):
            catalogue.record(
                f"heads/ab/{i}/0",
                head_of(f"https://files.test/{i}", data, kind=kind),
                used=1,
                disk=4096 if data else 0,
            )
        assert catalogue.sizes() == (5, 12_288)

    @given(
        st.lists(
            st.tuples(
                st.integers(0, 7),
                st.sampled_from([None, b"x", b"y", b"z"]),
                st.sampled_from("ab"),
                st.integers(0, 9),
            ),
            max_size=40,
        )
    )
    @settings(max_examples=60, deadline=None)
    def test_sizes_are_those_of_the_listing(self, steps):
        """Whatever is recorded, recorded again, forgotten or used."""
        catalogue = SqliteCatalogue(None)
        for number, data, kind, used in steps:
            key = f"heads/ab/{number}/0"
            if used == 0:
                catalogue.forget([key])
            elif used == 9:
                catalogue.note_used([(key, 99.0)])
            else:
                head = head_of(f"https://files.test/{number}", data, kind=kind)
                catalogue.record(key, head, used=used, disk=4096 * data[0] if data else 0)
        rows = list(catalogue.listing())
        bodies = {row.body: row.disk for row in rows if row.body}
        assert catalogue.sizes() == (len(rows), sum(bodies.values()))
        catalogue.close()

    def test_only_sha256_names_bodies(self, catalogue):
        assert catalogue.heads_of(Digest("md5", "0" * 32)) == []

    def test_the_listing_goes_on_while_others_change_it(self, catalogue, monkeypatch):
        from entrepot.store import catalogue as module

        monkeypatch.setattr(module, "BATCH", 2)
        for i in range(6):
            catalogue.record(
                f"heads/ab/{i}/0", head_of(f"https://files.test/{i}", b"x"), used=1, disk=1
            )
        listing = catalogue.listing()
        seen = [next(listing).key]
        catalogue.forget(["heads/ab/3/0"])
        seen += [row.key for row in listing]
        assert [k[9] for k in seen] == ["0", "1", "2", "4", "5"]

    def test_later_uses_are_noted(self, catalogue):
        catalogue.record("heads/ab/0/0", head_of("https://files.test/a", b"x"), used=1, disk=1)
        catalogue.note_used([("heads/ab/0/0", 7.0), ("heads/no/such/0", 8.0)])
        assert [row.used for row in catalogue.listing()] == [7.0]


class TestLinks:
    def test_what_was_learned_is_known_in_every_process(self, path, catalogue):
        known = links(5)
        catalogue.learn(known)
        assert [SqliteCatalogue(path).link(each.url) for each in known] == known
        assert catalogue.link("https://files.test/other") is None

    def test_the_latest_word_wins(self, catalogue):
        catalogue.learn(
            [
                Link("https://files.test/a", size=1, source="p"),
                Link("https://files.test/a", size=2, source="q"),
            ]
        )
        assert catalogue.link("https://files.test/a") == Link(
            "https://files.test/a", size=2, source="q"
        )

    def test_each_page_has_its_own_word_on_a_url_and_the_latest_of_each_wins(self, path, catalogue):
        url = "https://files.test/a"
        for size, page, state in ((1, "p", "1"), (2, "q", "1"), (3, "p", "2")):
            assert catalogue.learn([Link(url, size=size)], page=page, state=state)
        found = SqliteCatalogue(path).links(url)
        assert [(each.link.size, each.page, each.state) for each in found] == [
            (3, "p", "2"),
            (2, "q", "1"),
        ]

    def test_what_could_not_be_learned_is_said(self, path):
        catalogue = SqliteCatalogue(path, busy_s=0.05)
        catalogue.learn_host("first:1")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert catalogue.learn(links(1), page="p") is False
        other.execute("ROLLBACK")
        other.close()
        assert catalogue.learn(links(1), page="p") is True
        catalogue.close()

    def test_three_thousand_links_are_learned_without_being_noticed(self, catalogue):
        """The time is a bound for a busy machine; the figure is in the class's docstring."""
        page = links(3000)
        catalogue.link("warm up")
        best = 9.0
        for i in range(3):
            watch = Stopwatch()
            catalogue.learn([*page[i:], *page[:i]])
            best = min(best, watch.seconds())
        assert best < 0.3

    def test_a_link_takes_little_room(self, path, catalogue):
        catalogue.learn(links(3000))
        catalogue.close()
        assert path.stat().st_size / 3000 < 260

    digests = st.sampled_from(sorted(LENGTHS)).flatmap(
        lambda name: st.text(
            "0123456789abcdef", min_size=LENGTHS[name], max_size=LENGTHS[name]
        ).map(lambda value: Digest(name, value))
    )
    words = st.none() | st.text(max_size=12)

    @settings(max_examples=60, deadline=None)
    @given(
        st.builds(
            Link,
            url=st.sampled_from(
                ["https://f.test/a.whl", "https://f.test/a%2B1.whl?x=/b", "https://f.test/", "x"]
            ),
            digests=st.lists(digests, max_size=4).map(tuple),
            size=st.none() | st.integers(0, 2**50),
            project=words,
            version=words,
            filename=words | st.sampled_from(["a.whl", "a+1.whl", "", "=", "=="]),
            kind=st.sampled_from(["wheel", "other"]),
            upload_time=words,
        )
    )
    def test_packing_loses_nothing(self, link):
        assert unpack_link(link.url, (*link_row(link, 0)[3:-1], None)) == link


class TestTheRest:
    def test_hosts_and_counters_are_kept(self, path, catalogue):
        catalogue.learn_host("files.test:443")
        catalogue.learn_host("files.test:443")
        catalogue.count(hits=2, bytes_from_cache=100)
        catalogue.count(hits=1)
        assert catalogue.counters() == {"hits": 3, "bytes_from_cache": 100}
        catalogue.close()
        again = SqliteCatalogue(path)
        again.count(hits=10)
        assert again.hosts() == {"files.test:443"}
        assert again.counters() == {"hits": 13, "bytes_from_cache": 100}
        again.close()

    def test_counters_of_several_processes_add_up(self, path):
        catalogues = [SqliteCatalogue(path) for _ in range(3)]
        for each in catalogues:
            for _ in range(100):
                each.count(hits=1)
        for each in catalogues:
            each.close()
        assert SqliteCatalogue(path).counters() == {"hits": 300}

    def test_its_files_have_the_stores_mode(self, tmp_path):
        tmp_path.chmod(0o770)
        catalogue = SqliteCatalogue(tmp_path / "catalogue.sqlite")
        catalogue.learn_host("a:1")
        assert {oct(p.stat().st_mode & 0o777) for p in tmp_path.iterdir()} == {"0o660"}
        catalogue.close()
        tmp_path.chmod(0o700)

    def test_it_is_used_from_several_threads(self, catalogue):
        def work(n):
            for i in range(20):
                catalogue.record(
                    f"heads/{n}/{i}/0", head_of(f"https://files.test/{n}/{i}", b"x"), used=1, disk=1
                )

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert len(list(catalogue.listing())) == 80


class TestRebuilding:
    @pytest.fixture
    def store(self, tmp_path):
        store = DirectoryStore(tmp_path / "store", cap=10**9)
        yield store
        store.close()

    def filled(self, store, catalogue=None):
        for i in range(5):
            stored(
                store,
                catalogue,
                f"https://files.test/{i}",
                b"x" * i * 5000,
                used=1000.0 + i,
                kind="wheel",
            )
        stored(store, catalogue, "https://files.test/404", None, used=2000)

    def test_a_lost_catalogue_is_the_same_again(self, store):
        first = open_catalogue(store.root)
        assert first.needs_rebuild, "new"
        first.rebuild(store)
        assert not first.needs_rebuild
        self.filled(store, first)
        before = list(first.listing())
        first.close()
        for left in store.root.glob("catalogue*"):
            left.unlink()
        again = open_catalogue(store.root)
        assert again.needs_rebuild
        assert again.rebuild(store) == 6
        assert not again.needs_rebuild
        assert list(again.listing()) == before
        again.close()

    def test_only_unknown_heads_are_read_and_gone_ones_forgotten(self, store):
        catalogue = open_catalogue(store.root)
        self.filled(store, catalogue)
        stored(store, None, "https://files.test/new", b"new")
        store.delete(next(catalogue.listing()).key)
        store.put("heads/zz/damaged/0", b"{")
        assert catalogue.rebuild(store) == 1
        assert len(list(catalogue.listing())) == 6
        catalogue.close()

    def test_it_reads_any_store(self):
        store = MemoryStore()
        head = head_of("https://files.test/a", b"a")
        store.put(f"{cache_key('https://files.test/a')}/0", head.to_bytes())
        store.put("heads/ab/somebody-elses", head.to_bytes())
        catalogue = SqliteCatalogue(None)
        looked = []
        assert catalogue.rebuild(store, progress=looked.append) == 1
        assert [row.url for row in catalogue.listing()] == ["https://files.test/a"]
        assert looked == [0]


DAMAGE = {
    "not a database": lambda p: p.write_bytes(b"not a database at all" * 500),
    "first page zeroed": lambda p: p.write_bytes(b"\0" * 4096 + p.read_bytes()[4096:]),
    "pages overwritten": lambda p: p.write_bytes(
        p.read_bytes()[:4096] + os.urandom(len(p.read_bytes()) - 4096)
    ),
    "cut off": lambda p: p.write_bytes(p.read_bytes()[: len(p.read_bytes()) // 2 + 7]),
    "empty": lambda p: p.write_bytes(b""),
    "a table dropped": lambda p: sqlite3.connect(p).execute("DROP TABLE heads").connection.close(),
}


class TestStamps:
    def test_the_last_one_noted_is_kept(self, path):
        catalogue = SqliteCatalogue(path)
        key = body_key(digest(b"x"))
        assert catalogue.stamp(key) is None
        for stamp in ("1 2 3 4", "5 6 7 8"):
            catalogue.note_stamp(key, stamp)
        catalogue.close()
        assert SqliteCatalogue(path).stamp(key) == "5 6 7 8"

    def test_a_database_that_a_link_leads_to_is_left_alone(self, path):
        theirs = path.with_name("theirs.sqlite")
        db = sqlite3.connect(theirs)
        db.execute("CREATE TABLE work (x)")
        db.close()
        before = theirs.read_bytes()
        path.symlink_to(theirs)
        catalogue = SqliteCatalogue(path)
        catalogue.learn_host("files.test:443")
        assert catalogue.degraded
        catalogue.close()
        assert (theirs.read_bytes(), path.is_symlink()) == (before, True)


class TestTrouble:
    @pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
    def test_a_damaged_file_is_set_aside_and_begun_again(self, path, damage):
        catalogue = SqliteCatalogue(path)
        catalogue.rebuild(MemoryStore())
        for i in range(300):
            catalogue.record(
                f"heads/ab/{i:03}/0", head_of(f"https://files.test/{i}", b"x"), used=1, disk=1
            )
        catalogue.close()
        damage(path)
        again = SqliteCatalogue(path)
        list(again.listing())
        again.record("heads/ab/new/0", head_of("https://files.test/new", b"x"), used=1, disk=1)
        assert "heads/ab/new/0" in [row.key for row in again.listing()]
        list(again.listing())
        again.sizes()
        assert again.needs_rebuild
        assert not again.degraded
        again.close()

    def test_damage_under_an_open_connection_reaches_no_caller(self, path):
        catalogue = SqliteCatalogue(path)
        for i in range(300):
            catalogue.record(
                f"heads/ab/{i:03}/0", head_of(f"https://files.test/{i}", b"x"), used=1, disk=1
            )
        catalogue.close()  # what is in the log is in the file then
        catalogue.learn_host("open:1")
        path.write_bytes(path.read_bytes()[:4096] + os.urandom(100_000))
        catalogue.record("heads/ab/new/0", head_of("https://files.test/new", b"x"), used=1, disk=1)
        list(catalogue.listing())
        catalogue.learn(links(3))
        catalogue.close()

    @pytest.mark.parametrize("version", [VERSION - 1, VERSION + 1])
    def test_another_schema_is_begun_again(self, path, version):
        db = sqlite3.connect(path)
        db.execute("CREATE TABLE heads (something TEXT)")
        db.execute("CREATE TABLE later (something TEXT)")
        db.execute(f"PRAGMA user_version = {version}")
        db.close()
        catalogue = SqliteCatalogue(path)
        assert catalogue.needs_rebuild
        catalogue.learn_host("a:1")
        catalogue.close()
        assert SqliteCatalogue(path).hosts() == {"a:1"}

    def test_what_meets_a_lock_is_made_up_for(self, path):
        catalogue = SqliteCatalogue(path, busy_s=0.05)
        catalogue.learn_host("first:1")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        catalogue.record("heads/ab/cd/0", head_of("https://files.test/a", b"a"), used=1, disk=1)
        catalogue.learn(links(2))
        assert catalogue.troubles == 2
        assert list(catalogue.listing()) == []
        other.execute("ROLLBACK")
        other.close()
        catalogue.learn_host("second:2")
        assert [row.key for row in catalogue.listing()] == ["heads/ab/cd/0"]
        catalogue.close()

    def test_a_disk_that_refuses_gives_a_catalogue_in_memory(self, tmp_path):
        (tmp_path / "file").write_text("x")
        catalogue = SqliteCatalogue(tmp_path / "file" / "catalogue.sqlite")
        assert catalogue.degraded
        assert catalogue.needs_rebuild
        catalogue.record("heads/ab/cd/0", head_of("https://files.test/a", b"a"), used=1, disk=1)
        assert len(list(catalogue.listing())) == 1

    def test_a_catalogue_in_memory_by_choice_is_not_degraded(self):
        assert not SqliteCatalogue(None).degraded

    def test_without_a_log_it_works_as_well(self, path):
        """On a disk that can have none; one that was made without keeps its mode."""
        SqliteCatalogue(path).close()
        for _ in "12":
            db = sqlite3.connect(path)
            assert db.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
            db.close()
            catalogue = SqliteCatalogue(path)
            catalogue.learn(links(10))
            assert not catalogue.degraded
            assert catalogue.link(links(1)[0].url) == links(1)[0]
            catalogue.close()

    @pytest.mark.parametrize("whose", ["another process's", "a thread's"])
    def test_reading_does_not_wait_for_a_writer(self, path, whose):
        catalogue = SqliteCatalogue(path, busy_s=10)
        catalogue.learn(links(2))
        catalogue.count(runs=1)
        assert catalogue.link(links(1)[0].url)
        let_go, began = threading.Event(), threading.Event()

        def work(_db):
            began.set()
            assert let_go.wait(20)

        thread = threading.Thread(target=lambda: catalogue._write(work))
        other = sqlite3.connect(path, isolation_level=None)
        if whose == "a thread's":
            thread.start()
            assert began.wait(20)
        else:
            other.execute("BEGIN IMMEDIATE")
        start = time.monotonic()
        assert catalogue.link(links(1)[0].url) == links(1)[0]
        assert catalogue.note("read:a") is None
        assert (catalogue.counters(), catalogue.hosts()) == ({"runs": 1}, frozenset())
        assert not list(catalogue.listing())
        assert time.monotonic() - start < 5
        let_go.set()
        other.close()
        if whose == "a thread's":
            thread.join()
        catalogue.close()

    def test_on_a_network_disk_each_host_has_its_own(self, tmp_path, monkeypatch):
        monkeypatch.setattr(layout, "is_network", lambda _: True)
        catalogue = open_catalogue(tmp_path)
        assert catalogue.path.name.startswith("catalogue-")
        assert not catalogue.degraded
        catalogue.close()

    def test_network_disks_are_known_by_their_type(self, tmp_path):
        device = tmp_path.stat().st_dev
        line = f"36 35 {os.major(device)}:{os.minor(device)} / /mnt rw,noatime master:1 - {{}} server:/x rw\n"
        for kind, expected in (
            ("nfs4", True),
            ("fuse.sshfs", True),
            ("ext4", False),
            ("tmpfs", False),
        ):
            (tmp_path / "mounts").write_text(
                "1 2 0:999 / /proc rw - nfs x rw\n" + line.format(kind)
            )
            assert layout.is_network(str(tmp_path), str(tmp_path / "mounts")) is expected
        assert layout.is_network(str(tmp_path), str(tmp_path / "none")) is False

    def test_many_processes_open_a_fresh_one_at_once(self, path):
        code = (
            "import sys; from pathlib import Path; from entrepot.store.catalogue import SqliteCatalogue\n"
            "sys.stdin.read(); c = SqliteCatalogue(Path(sys.argv[1])); c.learn_host(sys.argv[2]); c.count(hits=1)\n"
            "assert not c.degraded and not c.troubles, c.troubles; c.close()"
        )
        children = [
            subprocess.Popen(
                [sys.executable, "-c", code, path, f"host:{i}"],
                env={"PYTHONPATH": SRC},
                stdin=subprocess.PIPE,
            )
            for i in range(6)
        ]
        for each in children:
            each.stdin.close()
        assert [each.wait() for each in children] == [0] * 6
        catalogue = SqliteCatalogue(path)
        assert catalogue.hosts() == {f"host:{i}" for i in range(6)}
        assert catalogue.counters() == {"hits": 6}

    def test_many_find_it_damaged_at_once_and_lose_nothing_new(self, path):
        path.write_bytes(b"damaged" * 999)
        catalogues = [SqliteCatalogue(path) for _ in range(4)]
        threads = [
            threading.Thread(target=c.learn_host, args=(f"h:{i}",))
            for i, c in enumerate(catalogues)
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert SqliteCatalogue(path).hosts() == {f"h:{i}" for i in range(4)}
        for each in catalogues:
            each.close()

    def test_a_file_that_another_has_begun_in_place_of_the_damaged_one_is_not_set_aside(self, path):
        path.write_bytes(b"damaged" * 999)
        late = SqliteCatalogue(path)
        with open(f"{path}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            thread = threading.Thread(target=late.learn_host, args=("h:1",))
            thread.start()
            clients.wait_until(
                lambda: late.troubles
            )  # it has found the damage, and waits for the lock
            path.replace(f"{path}.damaged")
            path.touch()
            begun = path.stat().st_ino
        thread.join()
        assert path.stat().st_ino == begun
        assert SqliteCatalogue(path).hosts() == {"h:1"}
        late.close()


class TestStartUp:
    def test_importing_and_making_it_brings_neither_sqlite_nor_asyncio(self, tmp_path):
        DirectoryStore(tmp_path / "s").close()
        code = (
            "import sys; from pathlib import Path; from entrepot.store.catalogue import open_catalogue\n"
            "from entrepot.store.directory import DirectoryStore\n"
            "s = DirectoryStore(Path(sys.argv[1]), create=False); c = open_catalogue(s.root)\n"
            "print(sorted({'sqlite3', 'asyncio', 'ssl', 'tempfile', 'subprocess'} & set(sys.modules)))"
        )
        out = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "s"],
            env={"PYTHONPATH": SRC},
            check=False,
            capture_output=True,
            text=True,
        )
        assert out.stdout == "[]\n", out.stderr


def typed(catalogue: SqliteCatalogue) -> Catalogue:
    """Only read by the type checker: it fits the port."""
    return catalogue
