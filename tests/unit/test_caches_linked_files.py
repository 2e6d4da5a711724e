"""Files that two caches hold together, by hard links.

What the disk gets back, and that they are not stored twice.
"""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from entrepot.caches.inventory import duplicates, wasted
from entrepot.caches.removal import Requirement, freed_by, plan_cleaning
from entrepot.ports.tool import Kind, SharedFile
from entries import NOW, entry

BODY, META = 12_288, 4_096


@pytest.fixture
def pair(tmp_path):
    """A wheel of pip's and one of the store's whose bodies are one file, each with a file of its own."""
    body, other = tmp_path / "body", tmp_path / "other"
    body.write_bytes(os.urandom(BODY))
    os.sync()  # some file systems give a file its blocks late
    os.link(body, other)
    assert body.stat().st_blocks * 512 == BODY
    fields = {"disk": META + BODY, "freeable": META}
    mine = entry(locations=("/nowhere", str(body)), **fields)
    stored = entry(
        tool="entrepot",
        place=Path("/s"),
        locations=("/nowhere", str(other)),
        hard_linked=True,
        **fields,
    )
    return mine, stored


def test_a_linked_file_is_freed_with_the_last_of_its_names(pair):
    for one in pair:
        assert freed_by([one], pair) == META
    assert freed_by(pair, pair) == 2 * META + BODY


def test_a_name_outside_the_caches_keeps_the_file(pair, tmp_path):
    os.link(tmp_path / "body", tmp_path / "mine")
    assert freed_by(pair, pair) == 2 * META


def test_two_heads_of_a_linked_body_free_it_once(pair):
    mine, stored = pair
    shared = SharedFile("x", BODY, 2)
    heads = [replace(stored, key=key, shared=shared, hard_linked=True) for key in "ab"]
    everything = [mine, *heads]
    assert freed_by(heads, everything) == 2 * META
    assert freed_by(everything, everything) == 3 * META + BODY


def test_a_size_to_get_down_to_counts_a_linked_file_once(pair):
    enough = 2 * META + BODY
    plan = plan_cleaning(pair, Requirement(to_bytes=enough), now=NOW)
    assert (plan.going, plan.left) == ([], enough)
    plan = plan_cleaning(pair, Requirement(to_bytes=0), now=NOW)
    assert (len(plan.going), plan.freed, plan.left) == (2, enough, 0)


def test_one_file_with_two_names_is_not_stored_twice(pair):
    mine, stored = pair
    assert duplicates(pair) == []
    copy = replace(mine, key="copy", locations=(), freeable=mine.disk)
    (same,) = duplicates([*pair, copy])
    assert wasted(same) == META + BODY
    assert stored in same


def test_directories_of_unpacked_files_are_their_tools_matter(pair, tmp_path):
    unpacked = replace(pair[0], kind=Kind.UNPACKED, locations=(str(tmp_path),), freeable=0)
    assert freed_by([unpacked], [unpacked]) == 0
