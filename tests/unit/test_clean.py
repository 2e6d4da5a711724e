"""Plans: what goes, why, what it frees and what it costs."""

from pathlib import Path

import pytest

from entrepot.caches.removal import Requirement, carry_out, freed_by, plan_cleaning, plan_removal
from entrepot.caches.selection import Filter
from entrepot.ports.tool import BlockedBy, Kind, SharedFile, Surroundings
from entries import DAY, NOW, FakeTool, entry


def names(plan):
    return [(e.project, e.version, reason) for e, reason in plan.going]


def test_plain_clean_takes_litter_and_nothing_else():
    litter = entry(removable_because="superseded layout")
    plan = plan_cleaning([entry(), litter, entry(days=9999)], Requirement(), now=NOW)
    assert plan.entries == [litter]
    assert plan.groups()[0][:2] == ("pip", "superseded layout")


def test_what_is_pinned_stays_with_its_reason_whatever_was_asked():
    pinned = entry(removable_because="left over", blocked="in use by process 4711")
    plan = plan_cleaning([pinned], Requirement(everything=True, older_s=0, to_bytes=0), now=NOW)
    assert plan.going == []
    assert plan.staying == [(pinned, "in use by process 4711")]
    assert plan.freed == 0


def test_what_yields_to_force_goes_by_force_and_is_named_without_it():
    fresh = entry(kind=Kind.UNPACKED, blocked="fresh", by=BlockedBy.RECENT)
    linked = entry(kind=Kind.UNPACKED, blocked="linked symbolically")
    for wanted in ({"unused": True}, {"everything": True}):
        assert plan_cleaning([fresh, linked], Requirement(**wanted), now=NOW).staying[0] == (
            fresh,
            "fresh",
        )
        assert plan_cleaning(
            [fresh, linked], Requirement(**wanted, force=True), now=NOW
        ).entries == [fresh]
    assert plan_cleaning([fresh, linked], Requirement(to_bytes=0), now=NOW).entries == []
    assert plan_cleaning([fresh, linked], Requirement(to_bytes=0, force=True), now=NOW).entries == [
        fresh
    ]


@pytest.mark.parametrize(("days", "goes"), [(89, False), (91, True), (None, False), (-1, False)])
def test_older_takes_what_was_not_used_for_that_long(days, goes):
    plan = plan_cleaning([entry(days=days)], Requirement(older_s=90 * DAY), now=NOW)
    assert bool(plan.going) is goes


def test_of_the_kinds_that_are_named_and_of_no_other():
    page, log, litter = (
        entry(kind=Kind.PAGE),
        entry(kind=Kind.LOG),
        entry(kind=Kind.TEMP, removable_because="stale temporary"),
    )
    assert plan_cleaning(
        [page, log, litter], Requirement(everything=True, kinds=frozenset((Kind.PAGE,))), now=NOW
    ).entries == [page]
    assert plan_cleaning(
        [page, log, litter], Requirement(to_bytes=0, kinds=frozenset((Kind.LOG,))), now=NOW
    ).entries == [log]
    assert plan_cleaning(
        [page, log, litter], Requirement(kinds=frozenset((Kind.TEMP,))), now=NOW
    ).entries == [litter]


def test_unused_takes_only_what_environments_could_link_to_and_do_not():
    loose = entry(kind=Kind.UNPACKED)
    plan = plan_cleaning(
        [entry(), entry(kind=Kind.UNPACKED, used_by=("train",)), loose],
        Requirement(unused=True),
        now=NOW,
    )
    assert plan.entries == [loose]


def test_keep_latest_counts_versions_not_files_and_each_cache_apart():
    entries = [
        entry("demo", "1.9"),
        entry("Demo", "1.10"),
        entry("demo", "1.10", kind=Kind.SDIST, filename="demo-1.10.tar.gz"),
        entry("demo", "2.0rc1"),
        entry("demo", "1.9", tool="uv", place=Path("/c/uv")),
        entry("other", None, filename=None),
    ]
    assert names(plan_cleaning(entries, Requirement(keep_latest=2), now=NOW)) == [
        ("demo", "1.9", "older versions")
    ]
    assert len(plan_cleaning(entries, Requirement(keep_latest=0), now=NOW).going) == 5


def test_to_takes_what_environments_hold_last_and_only_where_that_reaches_the_size():
    linked = entry("a", days=90, kind=Kind.UNPACKED, freeable=4096)
    held = entry("b", days=90, kind=Kind.UNPACKED, freeable=0)
    loose = entry("c", days=1)
    everything = [held, linked, loose]
    for left, going in ((2, [loose]), (1, [loose, linked]), (0, [loose, linked, held])):
        plan = plan_cleaning(everything, Requirement(to_bytes=left * 12_288), now=NOW)
        assert (plan.entries, plan.left) == (going, left * 12_288)
    plan = plan_cleaning(
        [*everything, entry("d", blocked="in use")], Requirement(to_bytes=0), now=NOW
    )
    assert (plan.entries, plan.left) == ([loose], 3 * 12_288)


def test_to_counts_what_the_caches_hold_and_tells_apart_what_is_freed():
    """uv's default links environments to its cache.

    What goes is in the cache no more, and the disk gets nothing of it.
    """
    entries = [entry(f"p{n}", days=n, kind=Kind.UNPACKED, freeable=0) for n in range(10)]
    plan = plan_cleaning(entries, Requirement(to_bytes=7 * 12_288), now=NOW)
    assert [e.project for e in plan.entries] == ["p9", "p8", "p7"]
    assert (plan.left, plan.freed) == (7 * 12_288, 0)


def test_to_leaves_what_would_change_nothing():
    """A head of a body that another, which has to stay, names too: the body stays.

    And a file of another cache's.
    """
    shared = {"shared": SharedFile("x", 12288, 2), "freeable": 0}
    entries = [
        entry("a", key="1", **shared),
        entry("a", key="2", blocked="in use", **shared),
        entry("b", disk=0, freeable=0),
    ]
    assert plan_cleaning(entries, Requirement(to_bytes=0), now=NOW).going == []


def test_to_takes_the_least_recently_used_until_the_rest_fits():
    entries = [entry("a", days=1), entry("b", days=30), entry("c", days=10), entry("d", days=None)]
    plan = plan_cleaning(entries, Requirement(to_bytes=2 * 12_288), now=NOW)
    assert [e.project for e in plan.entries] == ["d", "b"]
    assert plan.freed == 2 * 12_288


def test_to_counts_what_the_rest_of_the_plan_frees_already():
    entries = [
        entry("litter", removable_because="old layout"),
        entry("old", days=100),
        entry("new", days=1),
    ]
    plan = plan_cleaning(entries, Requirement(to_bytes=2 * 12_288), now=NOW)
    assert [e.project for e in plan.entries] == ["litter"]


def test_to_does_nothing_when_all_fits():
    assert plan_cleaning([entry()], Requirement(to_bytes=12_288), now=NOW).going == []


def test_to_takes_all_sharers_of_a_file_when_the_file_has_to_go():
    shared = {"shared": SharedFile("x", 8192, 2), "freeable": 4096}
    entries = [
        entry("a", days=30, key="1", **shared),
        entry("b", days=20, key="2", **shared),
        entry("c", days=1),
    ]
    plan = plan_cleaning(entries, Requirement(to_bytes=12_288), now=NOW)
    assert [e.project for e in plan.entries] == ["a", "b"]
    assert plan.freed == 4096 + 4096 + 8192


def test_a_file_that_others_share_is_freed_only_when_all_of_them_go():
    shared = {"shared": SharedFile("x", 8192, 2), "freeable": 4096}
    one, two = entry(key="1", **shared), entry(key="2", **shared)
    assert freed_by([one], [one, two]) == 4096
    assert freed_by([one, two], [one, two]) == 16_384


def test_the_cost_is_what_was_fetched_and_what_was_built_but_not_litter():
    entries = [
        entry(),
        entry(kind=Kind.BUILT),
        entry(kind=Kind.TEMP),
        entry(
            kind=Kind.SDIST,
            filename="demo-1.0.tar.gz",
            size=500,
            removable_because="superseded layout",
        ),
    ]
    plan = plan_cleaning(entries, Requirement(everything=True), now=NOW)
    assert (plan.download, plan.builds) == (10_000, 1)
    assert len(plan.going) == 4


def test_a_removal_takes_what_matches_and_by_force_what_yields_to_it():
    """A plan that says it goes, and a tool that keeps it, would be a plan that lies."""
    fine, other = entry("demo"), entry("other")
    made, written = (
        entry("demo", "2.0", blocked="made a moment ago", by=BlockedBy.RECENT),
        entry("demo", "3.0", blocked="being written"),
    )
    wanted = Filter(patterns=("demo",))
    plan = plan_removal([fine, made, written, other], wanted, now=NOW)
    assert plan.entries == [fine]
    assert plan.staying == [(made, "made a moment ago"), (written, "being written")]
    plan = plan_removal([fine, made, written, other], wanted, now=NOW, force=True)
    assert plan.entries == [fine, made]
    assert plan.staying == [(written, "being written")]


def test_carrying_out_asks_each_tool_for_its_own_entries(tmp_path):
    mine, its = entry("a"), entry("b", tool="uv")
    tools = [
        FakeTool("pip", [mine]),
        FakeTool("uv", [its], kept={its.key: "locked"}),
        FakeTool("conda"),
    ]
    plan = plan_cleaning([mine, its], Requirement(everything=True), now=NOW)
    done = carry_out(plan, tools, Surroundings({}, tmp_path, tmp_path))
    assert done.keys() == {"pip", "uv"}
    assert done["pip"].entries == (mine,)
    assert done["uv"].kept == ((its, "locked"),)
    assert tools[0].entries == []
