"""RFC 9111 §5.2.1: request directives, and §5.4 Pragma."""

import pytest

from cachecases import KEPT, answer, arrive, decide, get, stored
from entrepot.httpcache import Bypass, Discard, Hit, Miss, Reason, Stale, StaleUse


@pytest.mark.parametrize(
    ("wants", "cc", "after", "kind", "reason"),
    [
        ("max-age=100", KEPT, 100, Hit, Reason.FRESH),
        ("max-age=100", KEPT, 101, Stale, Reason.REQUEST_MAX_AGE),
        ("max-age=0", KEPT, 0, Stale, Reason.REQUEST_MAX_AGE),
        ("max-age=x", KEPT, 0, Stale, Reason.REQUEST_MAX_AGE),
        ("no-cache", KEPT, 0, Stale, Reason.REQUEST_NO_CACHE),
        ("min-fresh=500", KEPT, 100, Hit, Reason.FRESH),
        ("min-fresh=501", KEPT, 100, Stale, Reason.MIN_FRESH),
        ("max-stale", KEPT, 9999, Hit, Reason.MAX_STALE),
        ("max-stale=10", KEPT, 610, Hit, Reason.MAX_STALE),
        ("max-stale=10", KEPT, 611, Stale, Reason.EXPIRED),
        ("max-stale=10, min-fresh=5", KEPT, 605, Stale, Reason.EXPIRED),
        ("max-stale=10", None, 5, Hit, Reason.MAX_STALE),
        ("max-stale=10, max-age=5", KEPT, 605, Stale, Reason.REQUEST_MAX_AGE),
        ("max-stale", KEPT + ", must-revalidate", 700, Stale, Reason.MUST_REVALIDATE),
        ("max-stale", "no-cache", 0, Stale, Reason.NO_CACHE),
        ("no-store", KEPT, 0, Hit, Reason.FRESH),
        ("no-store", KEPT, 700, Bypass, Reason.NO_STORE),
        ("only-if-cached", KEPT, 0, Hit, Reason.FRESH),
        ("only-if-cached", KEPT, 700, Miss, Reason.ONLY_IF_CACHED),
        ("only-if-cached, max-stale", KEPT, 700, Hit, Reason.MAX_STALE),
        ("nothing-to-see-here", KEPT, 0, Hit, Reason.FRESH),
    ],
)
def test_what_a_request_wants_of_a_stored_response(wants, cc, after, kind, reason):
    decision = decide(get(cache_control=wants), stored(cache_control=cc), after=after)
    assert isinstance(decision, kind)
    assert decision.reason is reason


def test_pragma_is_no_cache():
    assert (
        decide(get(pragma="no-cache"), stored(cache_control=KEPT)).reason is Reason.REQUEST_NO_CACHE
    )


def test_only_if_cached_with_nothing_stored_is_a_miss_for_504():
    assert (
        decide(get(cache_control="only-if-cached", range="bytes=0-1")).reason
        is Reason.ONLY_IF_CACHED
    )


@pytest.mark.parametrize(
    ("wants", "use"),
    [
        ("no-cache", StaleUse.NEVER),
        ("max-age=0", StaleUse.IF_ERROR),
        ("min-fresh=601", StaleUse.IF_ERROR),
    ],
)
def test_whether_a_demand_for_validation_tolerates_a_failure(wants, use):
    assert decide(get(cache_control=wants), stored(cache_control=KEPT)).may_serve is use


def test_the_answer_to_a_no_store_request_is_not_stored():
    request = get(cache_control="no-store")
    assert arrive(decide(request), request, answer(cache_control=KEPT)) == Discard(Reason.NO_STORE)


def test_max_stale_leaves_a_negative_time_to_live():
    assert decide(get(cache_control="max-stale"), stored(cache_control=KEPT), after=610).ttl == -10
