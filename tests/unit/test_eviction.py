"""Which bodies go: examples and properties."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from entrepot.eviction import Use, victims


def test_nothing_goes_while_everything_fits():
    assert victims([Use("a", "x", 1, 100), Use("b", None, 1, 0)], 100) == []


def test_the_newest_of_its_heads_is_a_bodys_last_use():
    uses = [Use("a1", "x", 1, 50), Use("a2", "x", 9, 50), Use("b", "y", 5, 50)]
    assert [v.body for v in victims(uses, 60)] == ["y"]


def test_a_body_goes_with_all_its_heads_and_counts_once():
    (victim,) = victims([Use("a1", "x", 1, 50), Use("a2", "x", 2, 50)], 10, head_disk=4)
    assert (victim.heads, victim.disk) == (["a1", "a2"], 58)


def test_a_body_in_use_stays_even_when_the_budget_cannot_be_kept():
    uses = [Use("a", "x", 1, 50), Use("b", "y", 2, 50)]
    assert [v.body for v in victims(uses, 10, in_use=lambda body: body == "x")] == ["y"]


def test_whether_a_body_is_open_is_asked_only_of_those_whose_turn_it_is():
    asked = []
    victims(
        [Use(str(i), str(i), i, 10) for i in range(10)],
        70,
        in_use=lambda body: bool(asked.append(body)),
    )
    assert asked == ["0", "1", "2"]


def test_long_unused_heads_without_a_body_go_first_but_only_under_pressure():
    uses = [
        Use("gone", None, 1, 0),
        Use("missing", None, 8, 0),
        Use("a", "x", 2, 50),
        Use("b", "y", 3, 50),
    ]
    assert victims(uses, 1000, head_disk=4, idle_before=5) == []
    assert [v.heads for v in victims(uses, 80, head_disk=4, idle_before=5)] == [["gone"], ["a"]]


def test_other_heads_without_a_body_go_last():
    uses = [Use("n", None, 1, 0), Use("m", None, 2, 0), Use("a", "x", 5, 50)]
    assert [v.heads for v in victims(uses, 4, head_disk=4)] == [["a"], ["n"]]


BODIES = st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(0, 100), max_size=12)


@st.composite
def stores(draw):
    """Heads of some bodies, and some without."""
    disks = draw(BODIES)
    uses = []
    for body, disk in disks.items():
        uses += [
            Use(f"{body}-{i}", body, used, disk)
            for i, used in enumerate(draw(st.lists(st.integers(0, 20), min_size=1, max_size=3)))
        ]
    uses += [
        Use(f"none-{i}", None, used, 0)
        for i, used in enumerate(draw(st.lists(st.integers(0, 20), max_size=3)))
    ]
    return (
        draw(st.permutations(uses)),
        disks,
        draw(st.sets(st.sampled_from(sorted(disks)) if disks else st.nothing())),
    )


@given(stores(), st.integers(0, 400), st.integers(0, 8), st.integers(0, 20))
def test_what_goes_is_enough_needed_oldest_and_never_in_use(case, budget, head_disk, idle_before):
    uses, disks, busy = case
    total = sum(disks.values()) + head_disk * len(uses)
    chosen = victims(
        uses, budget, in_use=busy.__contains__, head_disk=head_disk, idle_before=idle_before
    )
    gone = {v.body for v in chosen if v.body}
    left = total - sum(v.disk for v in chosen)
    assert not gone & busy
    # enough: what is left over the budget could not go
    last_use = {b: max(u.used for u in uses if u.body == b) for b in disks}
    kept = set(disks) - gone
    if left > budget:
        assert kept <= busy
        assert {u.key for u in uses if u.body is None} <= {k for v in chosen for k in v.heads}
    # needed: without its last body it would not fit
    bodies = [v for v in chosen if v.body]
    if bodies and chosen[-1] is bodies[-1]:
        assert left + bodies[-1].disk > budget
    # oldest: nothing older was spared
    for body in kept - busy:
        assert all(last_use[g] <= last_use[body] for g in gone)
    # whole: a body takes exactly its heads along
    for victim in bodies:
        assert sorted(victim.heads) == sorted(u.key for u in uses if u.body == victim.body)


@given(stores(), st.integers(0, 400), st.randoms())
def test_the_choice_does_not_depend_on_the_order_of_heads(case, budget, random):
    uses, _, _ = case
    shuffled = list(uses)
    random.shuffle(shuffled)
    assert [(v.body, sorted(v.heads)) for v in victims(uses, budget)] == [
        (v.body, sorted(v.heads)) for v in victims(shuffled, budget)
    ]
