"""``clean --to SIZE`` over caches of any make.

It gets down to SIZE where that can be, stops there, and takes nothing in vain.
"""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from entrepot.caches.removal import Requirement, plan_cleaning
from entrepot.ports.tool import Kind, SharedFile, Sum
from entries import NOW, entry

LINKS = st.sampled_from(["none", "all", "most"])


@st.composite
def caches(draw):
    """Entries of three tools.

    Some linked into environments, some sharing a body, some that have to stay.
    """
    entries = []
    for number in range(draw(st.integers(0, 12))):
        disk, links = draw(st.integers(0, 50)) * 4096, draw(LINKS)
        fields = {
            "disk": disk,
            "freeable": {"none": disk, "all": 0, "most": min(4096, disk)}[links],
        }
        tool = draw(st.sampled_from(["pip", "uv", "conda"]))
        if draw(st.integers(0, 4)) == 0:
            body = draw(st.integers(0, 2))
            fields = {"disk": 4096 * (body + 2), "freeable": 4096}
            fields["shared"] = SharedFile(f"body-{body}", 4096 * (body + 1), 2)
            tool = "entrepot"
        entries.append(
            entry(
                f"p{number}",
                days=draw(st.none() | st.integers(0, 99)),
                tool=tool,
                place=Path("/c", tool),
                kind=draw(st.sampled_from([Kind.WHEEL, Kind.UNPACKED])),
                blocked=draw(st.sampled_from(["", "", "", "in use"])),
                removable_because=draw(st.sampled_from(["", "", "", "orphan"])),
                **fields,
            )
        )
    return entries


def held(entries):
    total = Sum()
    for each in entries:
        total.add(each)
    return total.disk


@given(caches(), st.integers(0, 300))
def test_to_gets_down_to_the_size_and_stops_there(entries, size):
    target = size * 4096
    plan = plan_cleaning(entries, Requirement(to_bytes=target), now=NOW)
    gone = {each.key for each in plan.entries}
    rest = [each for each in entries if each.key not in gone]
    assert plan.left == held(rest)
    assert not any(each.blocked for each in plan.entries)
    lowest = held([each for each in entries if each.blocked])
    if lowest <= target:
        assert plan.left <= target, "it can be reached"
    taken = [each for each, reason in plan.going if reason.startswith("least")]
    alone = [each for each in taken if not each.shared]
    if not taken:
        return
    assert held([*rest, taken[-1]]) > target, "the last one was not needed"
    free_nothing = [each for each in alone if not each.freeable]
    if free_nothing:
        assert lowest <= target, "what frees nothing goes only where that reaches the size"
        loose = [
            each
            for each in rest
            if not each.blocked
            and not each.shared
            and each.freeable
            and each.freeable * 2 >= each.disk
        ]
        assert not loose, "what frees something goes first"
    for kind in (True, False):  # among those of a kind, the least recently used
        same = [each for each in alone if (each.freeable * 2 >= each.disk) is kind and each.disk]
        others = [
            each
            for each in rest
            if not (each.blocked or each.shared)
            and (each.freeable * 2 >= each.disk) is kind
            and each.disk
        ]
        if kind and same and others:
            assert max(each.used or 0 for each in same) <= min(each.used or 0 for each in others)
