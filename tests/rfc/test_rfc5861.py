"""RFC 5861: stale-while-revalidate and stale-if-error."""

import pytest

from cachecases import decide, get, stored
from entrepot.httpcache.exchange import on_failure
from entrepot.httpcache.policy import StaleUse

NEVER, NOW_AND_BEHIND, ON_ERROR = StaleUse.NEVER, StaleUse.WHILE_REVALIDATE, StaleUse.IF_ERROR


@pytest.mark.parametrize(
    ("cc", "wants", "after", "use"),
    [
        ("max-age=1, stale-while-revalidate=4", None, 5, NOW_AND_BEHIND),
        ("max-age=1, stale-while-revalidate=4", None, 6, ON_ERROR),
        ("max-age=1, stale-while-revalidate=4", "max-age=0", 3, ON_ERROR),
        ("max-age=1, stale-while-revalidate=4", "no-cache", 3, NEVER),
        ("max-age=1, stale-while-revalidate=4, must-revalidate", None, 3, NEVER),
        ("stale-while-revalidate=4", None, 3, ON_ERROR),
        ("max-age=1, stale-if-error=9", None, 10, ON_ERROR),
        ("max-age=1, stale-if-error=9", None, 11, NEVER),
        ("max-age=1, stale-if-error=9", "stale-if-error=99", 11, ON_ERROR),
        ("max-age=1", "stale-if-error=9", 10, ON_ERROR),
        ("max-age=1", "stale-if-error=9", 11, NEVER),
        ("max-age=1, stale-while-revalidate=4, stale-if-error=2", None, 5, NOW_AND_BEHIND),
    ],
)
def test_the_windows_bound_the_use_of_a_stale_response(cc, wants, after, use):
    assert decide(get(cache_control=wants), stored(cache_control=cc), after=after).may_serve is use


def test_a_response_served_while_it_is_revalidated_also_stands_in_for_an_error():
    entry = stored(cache_control="max-age=1, stale-while-revalidate=9")
    assert on_failure(decide(get(), entry, after=5), status=503) is entry
