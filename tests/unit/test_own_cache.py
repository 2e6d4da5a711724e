"""The store as one more tool."""

import os
from pathlib import Path

import pytest

from entrepot.caches.inventory import cache_total
from entrepot.caches.own import OwnCache
from entrepot.ports.store import read_object
from entrepot.ports.tool import Kind, Layer, Surroundings
from entrepot.store import layout
from entrepot.store.directory import DirectoryStore
from entrepot.stored import Head, TransferState
from own_store import World
from unit.storing import disk_of

A, B = "a" * 40, "b" * 40
"""Names of downloads."""
TEMPORARY = f"put-{'0' * 16}.tmp"


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path / "store")
    yield world
    world.close()


@pytest.fixture
def around(tmp_path):
    return Surroundings({}, tmp_path, tmp_path)


@pytest.fixture
def cache(world):
    layers = (Layer("default", "default", str(world.root), wins=True),)
    return OwnCache(
        world.root,
        layers=layers,
        directory=layout,
        open_store=lambda: world.opened,
        now=lambda: world.now,
    )


def scan(cache, around):
    return list(cache.scan(cache.places(around)[0], around))


def test_a_store_that_was_never_made_is_shown_and_not_opened(tmp_path, around):
    def never():
        raise AssertionError("opened")

    cache = OwnCache(
        tmp_path / "none", layers=(), directory=layout, open_store=never, now=lambda: 0.0
    )
    (place,) = cache.places(around)
    assert (place.path, place.exists) == (tmp_path / "none", False)
    assert not (tmp_path / "none").exists()


def test_a_proven_file_is_fresh_and_carries_its_names(world, cache, around):
    key = world.add(days=3)
    (entry,) = scan(cache, around)
    assert (entry.tool, entry.key, entry.kind) == ("entrepot", key, Kind.WHEEL)
    assert (entry.project, entry.version, entry.filename) == (
        "demo",
        "1.0",
        "demo-1.0-py3-none-any.whl",
    )
    assert (entry.trust, entry.state, entry.certainty) == ("proven", "fresh", "proven")
    assert (entry.size, entry.files, entry.used) == (7, 2, world.now - 3 * 86_400)
    assert entry.paths == (Path(world.root, key), Path(world.root, world.body(b"a wheel")))


def test_a_body_without_a_known_digest_is_unproven(world, cache, around):
    world.add(proven=False)
    assert scan(cache, around)[0].trust == "unproven"


@pytest.mark.parametrize(
    ("headers", "state"),
    [
        ([("Cache-Control", "max-age=7200")], "fresh"),
        ([("Cache-Control", "max-age=600")], "stale"),
        ([], "stale"),
    ],
    ids=["an hour old of two", "an hour old of ten minutes", "no lifetime"],
)
def test_a_page_is_fresh_or_stale_by_its_own_headers(world, cache, around, headers, state):
    world.add(
        "https://index.test/simple/demo/", kind="page", proven=False, version=None, headers=headers
    )
    assert scan(cache, around)[0].state == state


def test_a_remembered_404_has_no_body_and_no_trust(world, cache, around):
    world.add("https://index.test/simple/none/", None, kind="page", status=404)
    (entry,) = scan(cache, around)
    assert (entry.files, entry.size, entry.trust, entry.digest) == (1, 0, "", None)


def test_a_kind_of_a_later_version_is_other(world, cache, around):
    world.add(kind="hologram")
    assert scan(cache, around)[0].kind is Kind.OTHER


def test_a_shared_body_is_freed_only_with_its_last_head(world, cache, around):
    world.add("https://a.test/demo-1.0-py3-none-any.whl", b"x" * 10_000)
    world.add("https://b.test/demo-1.0-py3-none-any.whl", b"x" * 10_000)
    one, two = scan(cache, around)
    head = head_disk(world, one.key)
    assert one.freeable == two.freeable == head
    whole = cache_total(cache.places(around)[0], [one, two])
    assert whole.total.disk == whole.total.freeable == 12_288 + 2 * head
    assert (whole.total.size, whole.total.files) == (10_000, 3)
    before = objects_disk(world)
    assert cache.remove([one], around).freed == before - objects_disk(world) == head
    before = objects_disk(world)
    removed = cache.remove([two], around)
    assert (removed.freed, removed.files) == (before - objects_disk(world), 2)
    assert removed.freed >= 12_288 + head
    assert world.objects() == {}


def objects_disk(world):
    """What bodies and heads take, by the file system's own figures."""
    return disk_of(world.root / "bodies") + disk_of(world.root / "heads")


def head_disk(world, key):
    """What a head gives back: its file, and its directory, which goes with it."""
    return sum(path.stat().st_blocks * 512 for path in (world.path(key), world.path(key).parent))


@pytest.fixture
def linked(world):
    """A body of the store that is a file of another cache as well; its head's key."""
    key = world.add("https://a.test/taken-1.0-py3-none-any.whl", b"taken over")
    os.link(world.path(world.body(b"taken over")), world.root.parent / "pips")
    return key


def test_a_body_with_other_names_gives_nothing_back_alone(world, cache, around, linked):
    world.add("https://b.test/taken-1.0-py3-none-any.whl", b"taken over")
    world.add("https://a.test/demo-1.0-py3-none-any.whl", b"x" * 10_000)
    entries = scan(cache, around)
    head, body = (
        head_disk(world, linked),
        world.path(world.body(b"taken over")).stat().st_blocks * 512,
    )
    assert sorted(entry.freeable for entry in entries) == [head, head, 12_288 + head]
    held = cache.summary(cache.places(around)[0], around)
    assert (held.linked, held.total.disk - held.overhead - held.total.freeable) == (body, body)


def test_the_summary_agrees_with_a_scan(world, cache, around, linked):
    world.add("https://a.test/demo-1.0-py3-none-any.whl", b"x" * 10_000, days=4)
    world.add("https://b.test/demo-1.0-py3-none-any.whl", b"x" * 10_000, days=2)
    world.add("https://index.test/simple/demo/", b"page", kind="page", proven=False)
    world.add("https://index.test/simple/none/", None, kind="page", status=404)
    flights = world.root / "flights"
    flights.mkdir(exist_ok=True)
    (flights / f"{A}.part").write_bytes(b"y" * 5000)
    place = cache.places(around)[0]
    quick, slow = cache.summary(place, around), cache_total(place, cache.scan(place, around))
    assert quick.groups.keys() - {"other"} == slow.groups.keys() == {"downloads", "pages", "temp"}
    for name in slow.groups:
        for what in ("entries", "files", "size", "disk", "freeable", "used"):
            assert getattr(quick.groups[name], what) == getattr(slow.groups[name], what), (
                name,
                what,
            )
    assert quick.total.disk - quick.overhead == slow.total.disk
    assert quick.total.freeable == slow.total.freeable
    assert quick.total.files == slow.total.files


def test_the_head_goes_before_its_body_under_the_lock_of_the_body(world, cache, around):
    key = world.add()
    entries, before = scan(cache, around), objects_disk(world)
    removed = cache.remove(entries, around)
    assert world.store.deleted == [key, world.body(b"a wheel")]
    assert world.store.held == [world.body(b"a wheel")]
    assert (removed.files, removed.kept) == (2, ())
    assert removed.freed == before - objects_disk(world)
    assert world.known() == set()


def test_what_was_replaced_since_the_scan_stays(world, cache, around):
    world.add(data=b"old")
    entries = scan(cache, around)
    world.add(data=b"new")
    removed = cache.remove(entries, around)
    assert removed.entries == ()
    assert [why for _, why in removed.kept] == ["it was replaced meanwhile"]
    assert world.store.deleted == []


def test_what_somebody_holds_stays_with_the_reason(world, cache, around):
    world.add()
    with DirectoryStore(world.root).hold(world.body(b"a wheel")):
        removed = cache.remove(scan(cache, around), around)
    assert [why for _, why in removed.kept] == [
        "this part of the store is locked by another process"
    ]


def test_what_is_gone_already_is_no_failure_and_frees_nothing(world, cache, around):
    world.add()
    entries = scan(cache, around)
    for key in world.objects():
        world.taken(key)
    removed = cache.remove(entries, around)
    assert (removed.freed, removed.kept) == (0, ())
    assert world.known() == set()


def test_a_head_that_cannot_be_read_is_removed_all_the_same(world, cache, around):
    key = world.add()
    entries = scan(cache, around)
    world.path(key).write_bytes(b"{")
    assert cache.remove(entries, around).files == 2


@pytest.mark.parametrize(
    ("name", "age", "says"),
    [
        (f"{A}.part", 10, ("a download in progress", "")),
        (f"{A}.part", 86_400, ("", "")),
        (f"{A}.part", 8 * 86_400, ("", "unfinished download")),
        (TEMPORARY, 10, ("being written", "")),
        (TEMPORARY, 7_200, ("", "stale temporary")),
    ],
)
def test_an_unfinished_file_is_pinned_while_fresh_and_litter_when_old(
    world, cache, around, name, age, says
):
    path = unfinished(world, name, age)
    (entry,) = scan(cache, around)
    assert (entry.key, entry.kind, entry.paths) == (f"flights/{name}", Kind.TEMP, (path,))
    assert (entry.blocked, entry.removable_because) == says


@pytest.mark.parametrize(("led", "says"), [(True, "a download in progress"), (False, "")])
@pytest.mark.parametrize("age", [10, 86_400])
def test_where_a_lock_tells_the_age_of_an_unfinished_download_does_not_count(
    world, cache, around, led, says, age
):
    """One that died for lack of room may go at once, and one that stands still for long is in progress all the same."""
    flight = DirectoryStore(world.root).open_partial(A)
    assert flight.try_lock()
    flight.write(b"x" * 5000)
    if not led:
        flight.release()
    os.utime(world.path(f"flights/{A}.part"), (world.now - age, world.now - age))
    (entry,) = scan(cache, around)
    assert entry.blocked == says
    held = cache.summary(cache.places(around)[0], around)
    assert (held.total.freeable == held.total.disk - held.overhead) == (not led)
    flight.close()


def test_a_note_goes_with_its_part_and_locks_are_not_shown(world, cache, around):
    part, note = unfinished(world, f"{A}.part", 9), unfinished(world, f"{A}.note", 9)
    unfinished(world, f"{A}.lock", 9)
    (entry,) = scan(cache, around)
    assert (entry.paths, entry.files) == ((note, part), 2)
    assert entry.disk == part.stat().st_blocks * 512 + note.stat().st_blocks * 512


def test_a_dead_writers_file_is_unlinked(world, cache, around):
    path = unfinished(world, TEMPORARY, 7_200)
    removed = cache.remove(scan(cache, around), around)
    assert not path.exists()
    assert removed.files == 1
    assert removed.freed > 0


def unfinished(world, name, age):
    path = world.root / "flights" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x" * 5000)
    os.utime(path, (world.now - age, world.now - age))
    return path


def test_a_file_among_the_downloads_that_is_not_ours_is_not_shown(world, cache, around):
    for name in ("film.part", "put-1.tmp", "a.tmp", f"{A}.part.bak", f"{A[:-1]}.part", f"{A}.tmp"):
        unfinished(world, name, 8 * 86_400)
    (world.root / f"flights/{B}.part").symlink_to(world.root / "flights/film.part")
    assert scan(cache, around) == []


def test_closing_closes_the_catalogue_that_was_opened(world, cache, around):
    def is_open():
        path = world.root / "catalogue.sqlite"
        return any(fd.exists() and fd.samefile(path) for fd in Path("/proc/self/fd").iterdir())

    world.add()
    cache.close()
    assert is_open()
    scan(cache, around)
    cache.close()
    assert not is_open()


def test_an_unfinished_download_is_called_by_the_file_it_was_to_be(world, cache, around):
    head = Head.from_bytes(read_object(world.opened.store, world.add()) or b"")
    unfinished(world, f"{A}.part", 9)
    (world.root / f"flights/{A}.note").write_bytes(TransferState(head, 7, "mark", False).to_bytes())
    unfinished(world, f"{B}.part", 9)
    (world.root / f"flights/{B}.note").write_bytes(b"no note")
    names = {entry.key: entry.filename for entry in scan(cache, around) if entry.kind is Kind.TEMP}
    assert names == {f"flights/{A}.part": "demo-1.0-py3-none-any.whl", f"flights/{B}.part": None}


def test_a_store_that_was_left_behind_at_the_default_place_is_told_with_the_way_to_empty_it(
    world, tmp_path, around
):
    layers = (
        Layer("file", "config.toml:1", str(tmp_path / "new"), wins=True),
        Layer("default", "default", str(world.root)),
    )
    (place,) = OwnCache(
        tmp_path / "new", layers=layers, directory=layout, open_store=pytest.fail, now=float
    ).places(around)
    (note,) = place.notes
    assert note.endswith(f"entrepot clean --tool entrepot --all --store {world.root}")
    (place,) = OwnCache(
        world.root, layers=layers[1:], directory=layout, open_store=pytest.fail, now=float
    ).places(around)
    assert place.notes == ()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: path.write_text("x"), "is no directory; set another with --store"),
        (
            lambda path: (path.mkdir(), (path / "notes.txt").touch()),
            "holds other things than a store; set another with --store",
        ),
        (
            lambda path: (path / "bodies").mkdir(parents=True),
            "holds other things than a store; set",
        ),
        (lambda path: (path / "lost+found").mkdir(parents=True), ""),
        (lambda path: path.symlink_to("nowhere"), "cannot be read"),
        (lambda path: path.mkdir(), ""),
        (lambda path: None, ""),
    ],
    ids=[
        "a file",
        "somebody's directory",
        "one with a name of ours",
        "a fresh volume",
        "a dangling link",
        "an empty directory",
        "nothing yet",
    ],
)
def test_a_place_that_cannot_become_a_store_is_said_so(tmp_path, make, why):
    make(tmp_path / "store")
    cache = OwnCache(
        tmp_path / "store", layers=(), directory=layout, open_store=pytest.fail, now=float
    )
    (place,) = cache.places(Surroundings({}, tmp_path, tmp_path))
    assert (place.exists, place.usable) == (False, not why)
    assert why in place.why_not
