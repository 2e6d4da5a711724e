"""Picking, ordering and summing up entries."""

import doctest
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from entrepot.caches import inventory
from entrepot.caches.inventory import cache_total, duplicates, scan_all, versions, wasted
from entrepot.caches.selection import Filter, matcher, ordered, version_order
from entrepot.errors import UsageError
from entrepot.ports.tool import Kind, Place, SharedFile, Sum, Surroundings
from entries import NOW, FakeTool, entry


@pytest.mark.parametrize(
    ("pattern", "project", "version", "fits"),
    [
        ("demo", "demo", "1.0", True),
        ("Demo_Pkg", "demo-pkg", "1.0", True),
        ("demo", "demo-extra", "1.0", False),
        ("demo*", "demo-extra", "1.0", True),
        ("d?mo", "demo", "1.0", True),
        ("demo==1.*", "demo", "1.9", True),
        ("demo==1.*", "demo", "2.0", False),
        ("demo>=2,<3", "demo", "2.5", True),
        ("demo>=2,<3", "demo", "3.0", False),
        ("demo >= 2, < 3", "demo", "2.0", True),
        ("demo[extra]==1.0", "demo", "1.0", True),
        ("demo==1", "demo", "1.0", True),
        ("demo>=2", "demo", "3.0rc1", True),
        ("demo!=1.0", "demo", "1.1", True),
        ("demo~=1.4", "demo", "1.9", True),
        ("demo*>=2", "demo-extra", "2.1", True),
        ("demo==1.0", "demo", None, False),
        ("demo==2024a", "demo", "2024a", True),
        ("demo==1.1.1w", "demo", "1.1.1w", True),
        ("demo==1.1.*", "demo", "1.1.1w", True),
        ("demo>=1", "demo", "1.1.1w", False),
        ("demo-1.0-*.whl", "demo", "1.0", True),
        ("demo-2*.whl", "demo", "1.0", False),
    ],
)
def test_a_pattern_fits_names_versions_globs_and_file_names(pattern, project, version, fits):
    assert matcher(pattern)(entry(project, version)) is fits


@pytest.mark.parametrize(
    "pattern",
    ["", "==1", "demo=1", "demo>=", "demo 1", "a/b", "demo>=2,", "demo==1;x", "demo==1 ; x>2"],
)
def test_what_is_no_pattern_is_a_usage_error(pattern):
    with pytest.raises(UsageError):
        matcher(pattern)


def test_an_entry_without_a_project_fits_no_name():
    assert not matcher("*")(entry(None, None))


def test_filters_add_up():
    keep = entry("demo", "1.0", days=100)
    others = [
        entry("demo", "1.0", days=1),
        entry("demo", "1.0", days=100, kind=Kind.SDIST),
        entry("else", days=100),
    ]
    wanted = Filter(patterns=("demo",), kinds=frozenset({Kind.WHEEL}), older_s=90 * 86_400)
    assert list(wanted.apply([keep, *others], now=NOW)) == [keep]


def test_an_entry_whose_last_use_is_unknown_is_not_old():
    assert list(Filter(older_s=1).apply([entry(days=None)], now=NOW)) == []


def test_stale_and_unused_pick_what_says_so():
    stale, linked = entry(state="stale"), entry(kind=Kind.UNPACKED, used_by=("env",))
    loose, pinned = entry(kind=Kind.UNPACKED), entry(kind=Kind.UNPACKED, blocked="in use")
    everything = [stale, linked, loose, pinned]
    assert list(Filter(stale=True).apply(everything, now=NOW)) == [stale]
    assert list(Filter(unused=True).apply(everything, now=NOW)) == [loose]


def test_orders_are_by_name_and_version_by_size_and_by_age():
    a9, a10, b = (
        entry("a", "1.9", days=1, disk=1),
        entry("a", "1.10", days=9, disk=3),
        entry("b", "1", days=None, disk=2),
    )
    assert ordered([b, a10, a9], "name") == [a9, a10, b]
    assert ordered([b, a10, a9], "size") == [a10, b, a9]
    assert ordered([b, a10, a9], "age") == [b, a10, a9]


RELEASES = st.lists(st.integers(0, 20), min_size=1, max_size=3).map(
    lambda parts: ".".join(map(str, parts))
)
SUFFIXES = st.sampled_from(["", ".dev3", "a1", "b2", "rc1", ".post1"])


@given(RELEASES, SUFFIXES, RELEASES, SUFFIXES)
def test_versions_are_ordered_as_pep_440_orders_them(release, suffix, other_release, other_suffix):
    one, two = release + suffix, other_release + other_suffix
    v, w = Version(one), Version(two)
    if v.release != w.release and (
        v.release[: len(w.release)] == w.release or w.release[: len(v.release)] == v.release
    ):
        return  # 1 and 1.0 are equal for PEP 440; the order among them does not matter here
    if v != w:
        assert (version_order(one) < version_order(two)) == (v < w)


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(inventory).failed == 0


def test_a_holding_sums_up_by_group_and_names_its_litter():
    entries = [
        entry(),
        entry(kind=Kind.SDIST, filename="demo-1.0.tar.gz", days=5),
        entry(kind=Kind.BUILT, blocked="made a moment ago"),
        entry(kind=Kind.TEMP, removable_because="stale temporary"),
        entry(kind=Kind.TEMP, removable_because="stale temporary", blocked="in use"),
    ]
    held = cache_total(Place("pip", Path("/c/pip"), ()), entries)
    assert list(held.groups) == ["downloads", "built", "temp"]
    assert held.groups["downloads"].entries == 2
    assert held.total.freeable == 3 * 12_288
    assert held.total.disk == 5 * 12_288
    assert held.total.used == NOW
    assert {reason: s.entries for reason, s in held.removable.items()} == {"stale temporary": 1}


def test_files_shared_by_entries_are_counted_once_and_are_not_freeable_while_one_is_pinned():
    shared = {"shared": SharedFile("sha256:x", 8192, 2), "freeable": 4096}
    total = Sum()
    for each in (entry(**shared), entry(**shared)):
        total.add(each)
    assert (total.disk, total.freeable, total.size, total.files) == (16_384, 16_384, 10_000, 3)
    total.add(entry(**shared, blocked="in use"))
    assert (total.disk, total.freeable) == (20_480, 8_192)


def test_duplicates_are_the_same_file_in_two_places_the_largest_waste_first():
    here, there = (
        entry("big", disk=50_000),
        entry("big", tool="uv", place=Path("/c/uv"), disk=40_000),
    )
    small = [entry("small", disk=10), entry("small", tool="uv", place=Path("/c/uv"), disk=10)]
    alone = entry("alone")
    found = duplicates([*small, alone, here, there])
    assert found == [[here, there], small]
    assert wasted(found[0]) == 40_000


def test_two_heads_of_one_body_are_no_duplicate():
    shared = {"shared": SharedFile("sha256:x", 8192, 2)}
    assert duplicates([entry(key="a", **shared), entry(key="b", **shared)]) == []


def test_versions_are_one_row_a_project_oldest_first():
    (row,) = versions(
        [
            entry("demo", "1.10"),
            entry("Demo", "1.9"),
            entry("demo", "1.9", tool="uv"),
            entry(None, None),
        ]
    )
    assert (row.project, row.versions, row.total.entries) == ("demo", ("1.9", "1.10"), 3)


def test_a_scan_skips_places_that_do_not_exist_and_reads_a_place_once(tmp_path):
    class Twice(FakeTool):
        def places(self, around):
            return [*super().places(around), *super().places(around)]

    around = Surroundings({}, tmp_path, tmp_path)
    one = entry()
    assert list(
        scan_all([Twice(entries=[one]), FakeTool("uv", [entry()], exists=False)], around)
    ) == [one]


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (("Foo_Bar",), {"foo-bar"}),
        (("foo>=2,<3", "bar==1.*"), {"foo", "bar"}),
        (("foo", "torch*"), None),
        (("foo-1.0-py3-none-any.whl",), None),
        ((), None),
    ],
)
def test_the_projects_of_a_filter_are_known_when_every_pattern_names_one(patterns, names):
    assert Filter(patterns=patterns).names() == (None if names is None else frozenset(names))
