"""Where pip's cache is read in a quick way and in a general one, both say the same."""

import os
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from entrepot.caches.inventory import Filter
from entrepot.caches.listing import forms_of, joined, line, lined, lines_of
from entrepot.stored import redacted_url
from entrepot.tools.pip.cache import http_rows
from entrepot.tools.pip.httpentry import key_of
from entrepot.tools.pip.index import Folders, Shard, shard_of
from entrepot.tools.pip.rows import (
    DISK,
    FREEABLE,
    LAYOUT,
    MEASURES,
    NEWEST,
    SIZE,
    STAMP,
    USED,
    USED_FROM,
    WIDTH,
    disk_of,
    measured,
    stamp,
)
from entries import NOW, entry

NAME = "0123456789abcdef" * 3 + "01234567"
TIMES = st.integers(-(2**33), 2**33)
PLAIN_FILE = 0o100644


@st.composite
def stats(draw):
    """What ``lstat`` says of a file."""
    size, links = draw(st.integers(0, 2**40)), draw(st.integers(1, 3))
    times = [draw(TIMES) for _ in range(3)]
    plain = [
        PLAIN_FILE,
        draw(st.integers(1, 5)),
        draw(st.integers(1, 3)),
        links,
        0,
        0,
        size,
        *times,
    ]
    nanoseconds = [1_000_000_000 * each + 5 for each in times]
    return os.stat_result(
        [
            *plain,
            *[each / 1e9 for each in nanoseconds],
            *nanoseconds,
            4096,
            draw(st.integers(0, 9)),
            0,
        ]
    )


@given(
    st.sampled_from(
        ["http-v2/0/1/2/3/4", "http-v2/0/1/2/3", "http/0/1/2/3/4", "http-v2/f/1/2/3/4"]
    ),
    stats(),
    stats(),
)
def test_a_directory_with_one_entry_gives_the_row_that_it_has_among_others(folder, head, body):
    files = [(NAME, head), (f"{NAME}.body", body)]
    among = http_rows(folder, [*files, ("zzz", head)])
    assert http_rows(folder, files) == [row for row in among if row[LAYOUT] != "other"]


@given(st.lists(stats(), min_size=1, max_size=4))
def test_one_walk_over_the_files_of_an_entry_measures_what_many_would(infos):
    row = [None] * WIDTH
    row[MEASURES], row[NEWEST] = measured(infos)
    inodes = {(info.st_dev, info.st_ino): info for info in infos}
    same = {key: sum((i.st_dev, i.st_ino) == key for i in infos) for key in inodes}
    assert row[STAMP] == ";".join(map(stamp, infos))
    assert row[SIZE] == sum(info.st_size for info in infos)
    assert row[USED] == max(max(info.st_atime, info.st_mtime) for info in infos)
    assert row[USED_FROM] == (
        "atime" if row[USED] > max(info.st_mtime for info in infos) else "mtime"
    )
    assert row[NEWEST] == max(max(info.st_mtime, info.st_ctime) for info in infos)
    if all(info.st_nlink == 1 for info in infos):
        assert row[DISK] == row[FREEABLE] == sum(map(disk_of, infos))
    else:
        firsts = {key: next(i for i in infos if (i.st_dev, i.st_ino) == key) for key in inodes}
        assert row[DISK] == sum(map(disk_of, firsts.values()))
        assert row[FREEABLE] == sum(
            disk_of(i) for key, i in firsts.items() if i.st_nlink <= same[key]
        )


@given(st.from_regex(r"\Ahttps?://[a-zA-Z0-9_.~:-]{0,12}/?[A-Za-z0-9_.~/?#@%-]{0,12}\Z"))
def test_the_key_of_a_url_that_stands_as_it_is_is_what_taking_it_apart_gives(url):
    assert key_of(url) == key_of(url.replace("http", "HTTP", 1))


@given(st.from_regex(r"\Ahttps?://[a-z0-9_.~:@-]{0,12}(/t/|/)?[A-Za-z0-9_.~/?#@%+!-]{0,12}\Z"))
def test_a_url_is_masked_alike_whether_or_not_it_has_to_be_taken_apart(url):
    assert redacted_url(url) == redacted_url(url.replace("http", "HTTP", 1))


FOLDERS = st.dictionaries(
    st.text(st.characters(exclude_characters="\0")), st.integers(0, 2**63 - 1)
)


@given(FOLDERS, st.lists(st.text()))
def test_a_shard_comes_back_from_its_bytes_whatever_the_names_are(marks, names):
    rows = [[name, *[None] * (WIDTH - 1)] for name in names]
    shard = Shard(Folders.of(marks), rows, 7.0)
    again = shard_of(*shard.packed())
    assert (again.rows, again.checked, again.packed()) == (rows, 7.0, shard.packed())
    assert again.folders.paths == list(marks)
    assert [
        int.from_bytes(again.folders.marks[at : at + 8], "little")
        for at in range(0, 8 * len(marks), 8)
    ] == list(marks.values())


ENTRIES = st.lists(
    st.builds(
        entry,
        st.sampled_from(["a", "b", None]),
        st.sampled_from(["1.10", "1.9", "2"]),
        days=st.integers(0, 9),
        disk=st.integers(1, 5),
    ),
    max_size=8,
).map(lambda found: [replace(each, key=str(number)) for number, each in enumerate(found)])


@given(ENTRIES, st.integers(0, 8), st.sampled_from(["name", "size", "age"]))
def test_entries_worked_on_in_two_parts_come_out_as_from_one(entries, cut, order):
    work = forms_of(Filter(older_s=86_400.0), order, lambda each: each.key, now=NOW)
    apart, total = joined([work(entries[:cut]), work(entries[cut:])])
    whole, sum_of_all = joined([work(entries)])
    assert (apart, total.bare()) == (whole, sum_of_all.bare())


@given(ENTRIES)
def test_lines_are_ordered_by_name_as_entries_are(entries):
    found, _ = joined([forms_of(Filter(), "name", line, now=NOW)(entries)])
    assert lined(found).keys == lines_of(entries).keys
