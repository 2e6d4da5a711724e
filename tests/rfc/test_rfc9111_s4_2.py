"""RFC 9111 §4.2: freshness lifetime, heuristics, age, and what may be served stale."""

import pytest

from cachecases import NOW, decide, get, stored, when
from entrepot.httpcache.exchange import Hit, Stale, on_failure
from entrepot.httpcache.freshness import current_age, freshness_lifetime
from entrepot.httpcache.policy import Reason, StaleUse


@pytest.mark.parametrize(
    ("named", "shared", "expected"),
    [
        ({}, False, None),
        ({"cache_control": "max-age=60"}, False, 60),
        ({"cache_control": "max-age=60, s-maxage=5"}, False, 60),
        ({"cache_control": "max-age=60, s-maxage=5"}, True, 5),
        ({"cache_control": ("max-age=60", "s-maxage=5")}, True, 5),
        ({"cache_control": "max-age=0, s-maxage=90", "expires": "0"}, True, 90),
        ({"cache_control": "max-age=60", "expires": when(-9)}, False, 60),
        ({"cache_control": "max-age=0", "expires": when(900)}, False, 0),
        ({"date": when(0), "expires": when(30)}, False, 30),
        ({"date": when(400), "expires": when(300)}, False, 0),
        ({"date": when(-10), "expires": when(10)}, False, 20),
        ({"expires": when(30)}, False, 30),
        ({"date": "foo", "expires": when(30)}, False, 30),
        ({"date": when(0), "expires": "0"}, False, 0),
        ({"date": when(0), "expires": "Thu, 18 Aug 2050 02:01:18 UTC"}, False, 0),
        ({"date": when(0), "expires": (when(30), when(40))}, False, 0),
        ({"last_modified": when(-1000)}, False, None),
    ],
)
def test_the_first_present_statement_decides_the_lifetime(named, shared, expected):
    assert freshness_lifetime(stored(**named), shared=shared) == expected


@pytest.mark.parametrize(
    ("status", "named", "expected"),
    [
        (200, {"last_modified": when(-1000)}, 100),
        (404, {"last_modified": when(-1000)}, 100),
        (201, {"last_modified": when(-1000)}, None),
        (599, {"last_modified": when(-1000), "cache_control": "public"}, 100),
        (200, {"last_modified": when(-10_000_000)}, 86_400),
        (200, {"last_modified": when(1000)}, 0),
        (200, {"last_modified": "yesterday"}, None),
        (200, {}, None),
        (200, {"last_modified": when(-1000), "expires": when(5), "date": when(0)}, 5),
    ],
)
def test_heuristics_need_last_modified_and_a_status_that_allows_them(status, named, expected):
    assert freshness_lifetime(stored(status, **named), shared=True, heuristic=0.1) == expected


@pytest.mark.parametrize(
    ("named", "took", "after", "expected"),
    [
        ({}, 0, 0, 0),
        ({}, 0, 7.9, 7),
        ({"date": when(-20)}, 0, 5, 25),
        ({"date": when(20)}, 0, 5, 5),
        ({"age": "30"}, 0, 5, 35),
        ({"age": "30"}, 4, 5, 39),
        ({"age": "3", "date": when(-20)}, 4, 0, 20),
        ({"age": "30, 9"}, 0, 0, 30),
        ({"age": ("0", "7200")}, 0, 0, 0),
        ({"age": "7200.0"}, 0, 0, 0),
        ({"age": "-5"}, -3, 0, 0),
        ({}, 0, -60, 0),
    ],
)
def test_age_is_the_larger_of_apparent_and_stated_age_plus_residence(named, took, after, expected):
    assert current_age(stored(took=took, **named), NOW + after) == expected


@pytest.mark.parametrize(("after", "fresh"), [(0, True), (599.9, True), (600, False), (601, False)])
def test_a_response_is_fresh_while_its_age_is_less_than_its_lifetime(after, fresh):
    decision = decide(get(), stored(cache_control="max-age=600"), after=after)
    assert isinstance(decision, Hit) is fresh
    assert decision.reason is (Reason.FRESH if fresh else Reason.EXPIRED)


@pytest.mark.parametrize("years", [1, 20])
def test_a_response_from_the_future_is_not_fresh(years):
    """A clock that was set back must not keep it for as long as it was ahead."""
    decision = decide(get(), stored(cache_control="max-age=600"), after=-years * 365 * 86400)
    assert isinstance(decision, Stale)
    assert isinstance(decide(get(), stored(cache_control="max-age=600"), after=-1), Hit)


def test_a_hit_tells_its_age_and_what_is_left():
    decision = decide(get(), stored(cache_control="max-age=600", age="50"), after=10)
    assert isinstance(decision, Hit)
    assert (decision.age, decision.ttl) == (60, 540)


def test_an_age_beyond_31_bits_is_never_fresh():
    assert isinstance(
        decide(get(), stored(cache_control="max-age=99999999999", age="2147483648")), Stale
    )


STALE = {"cache_control": "max-age=2"}


@pytest.mark.parametrize(
    ("cc", "shared", "reason", "use"),
    [
        ("max-age=2", False, Reason.EXPIRED, StaleUse.IF_ERROR),
        (None, False, Reason.NO_FRESHNESS, StaleUse.IF_ERROR),
        ("max-age=2, must-revalidate", False, Reason.MUST_REVALIDATE, StaleUse.NEVER),
        ("max-age=2, proxy-revalidate", True, Reason.MUST_REVALIDATE, StaleUse.NEVER),
        ("max-age=2, proxy-revalidate", False, Reason.EXPIRED, StaleUse.IF_ERROR),
        ("s-maxage=2", True, Reason.MUST_REVALIDATE, StaleUse.NEVER),
        ("max-age=2, s-maxage=2", False, Reason.EXPIRED, StaleUse.IF_ERROR),
        ("max-age=2, no-cache", False, Reason.NO_CACHE, StaleUse.NEVER),
        ("max-age=9999, no-store", False, Reason.NO_STORE, StaleUse.NEVER),
        ("max-age=9999, private", True, Reason.PRIVATE, StaleUse.NEVER),
        ("max-age=2, private", False, Reason.EXPIRED, StaleUse.IF_ERROR),
    ],
)
def test_a_stale_response_may_be_used_unless_a_directive_forbids_it(cc, shared, reason, use):
    decision = decide(get(), stored(cache_control=cc), after=100, shared=shared)
    assert isinstance(decision, Stale)
    assert (decision.reason, decision.may_serve) == (reason, use)


def test_an_invalidated_response_is_never_used_unvalidated():
    decision = decide(get(), stored(cache_control="max-age=600", invalidated=True))
    assert isinstance(decision, Stale)
    assert (decision.reason, decision.may_serve, decision.stale_for) == (
        Reason.INVALIDATED,
        StaleUse.NEVER,
        0,
    )


@pytest.mark.parametrize(
    ("status", "served"),
    [(None, True), (500, True), (502, True), (503, True), (504, True), (501, False), (404, False)],
)
def test_a_stale_entry_stands_in_for_a_failing_upstream(status, served):
    entry = stored(**STALE)
    assert (on_failure(decide(get(), entry, after=9), status=status) is entry) is served


def test_nothing_stands_in_when_it_must_not_or_when_nothing_is_stored():
    forbidden = decide(get(), stored(cache_control="max-age=2, must-revalidate"), after=9)
    assert on_failure(forbidden, status=None) is None
    assert on_failure(decide(get()), status=None) is None


def test_stale_for_counts_from_the_end_of_freshness():
    decision = decide(get(), stored(**STALE), after=9)
    assert isinstance(decision, Stale)
    assert (decision.age, decision.stale_for) == (9, 7)
