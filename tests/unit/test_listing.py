"""Entries as lines: in the order of entries, whole or not at all, and the same after they were kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.caches.listing import Lines, by, lines_of, picked, summed, together, unpacked
from entrepot.caches.selection import Filter, ordered
from entrepot.ports.tool import Block, BlockedBy, Entry, Kind

DAY = 86_400.0
ENTRIES = st.builds(
    Entry,
    tool=st.sampled_from(["pip", "uv"]),
    place=st.just(Path("/cache")),
    key=st.text(max_size=3),
    kind=st.sampled_from(Kind),
    size=st.just(1),
    disk=st.integers(0, 10**12),
    freeable=st.integers(0, 10**12),
    files=st.just(1),
    project=st.sampled_from([None, "a", "a-b", "ab", "a1", "b\n\x1b[31m"]),
    version=st.sampled_from(
        [None, "1.9", "1.10", "1.10rc1", "1.10.post1", "1!0.5", "2024.1", "not one"]
    ),
    used=st.none() | st.floats(1, 1e9),
    block=st.sampled_from([None, Block(BlockedBy.IN_USE, "in use")]),
    trust=st.sampled_from(["unproven", "proven", ""]),
)


def columns(lines: Lines) -> list[list[object]]:
    return [list(getattr(lines, name)) for name in Lines.__slots__]


@given(st.lists(ENTRIES, max_size=12))
def test_kept_lines_are_those_that_were_kept(entries):
    lines = lines_of(entries)
    assert columns(unpacked(lines.packed())) == columns(lines)


@given(st.lists(ENTRIES, max_size=8), st.data())
def test_lines_that_are_not_whole_are_none(entries, data):
    whole = lines_of(entries).packed()
    assert unpacked(whole[: data.draw(st.integers(0, len(whole) - 1))]) is None


@pytest.mark.parametrize(
    "versions",
    [("1.9", "1.10", "1.10.post1"), ("2.0.dev1", "2.0rc1", "2.0"), ("9", "10", "2024.1", "1!0.1")],
)
def test_lines_stand_in_the_order_of_entries(versions):
    start = Entry("pip", Path("/cache"), "k", Kind.WHEEL, 1, 1, 1, 1)
    entries = [
        replace(start, project=project, version=version, tool=tool, filename=name)
        for project in (None, "a", "a-b", "ab", "a1")
        for version in (None, *reversed(versions))
        for tool in ("uv", "pip")
        for name in (None, "x.whl")
    ]
    wanted = [
        (e.project or e.filename or e.key, e.version or "-", e.tool)
        for e in ordered(entries, "name")
    ]
    lines = lines_of(entries)
    assert list(zip(lines.names, lines.versions, lines.tools, strict=True)) == wanted
    apart = together([lines_of(entries[::2]), lines_of(entries[1::2])])
    assert columns(apart) == columns(lines)


def test_lines_are_picked_and_ordered_by_kind_age_and_size():
    start = Entry(
        "pip", Path("/cache"), "k", Kind.WHEEL, 1, 5, 5, 1, project="a", used=0.0, trust="unproven"
    )
    lines = lines_of([
        start,
        replace(start, kind=Kind.PAGE, disk=9, used=8 * DAY, block=Block(BlockedBy.IN_USE, "fresh")),
        replace(start, project="b", used=None, disk=7, trust=""),
    ])  # fmt: skip
    assert list(picked(lines, Filter(kinds=frozenset({Kind.WHEEL})), now=9 * DAY).kinds) == [
        "wheel*",
        "wheel",
    ]
    assert list(picked(lines, Filter(older_s=2 * DAY), now=9 * DAY).disk) == [5]
    assert list(by(lines, "size").disk) == [9, 7, 5]
    assert list(by(lines, "age").disk) == [7, 5, 9]
    total = summed(lines)
    assert (total.entries, total.disk, total.freeable) == (3, 21, 10)
