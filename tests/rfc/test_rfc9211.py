"""RFC 9211: Cache-Status."""

import pytest

from cachecases import KEPT, decide, get, stored
from entrepot.httpcache import Miss, Reason, cache_status, forward_reason


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ({"hit": True, "fwd": None}, "entrepot; hit"),
        (
            {"hit": True, "fwd": "stale", "ttl": -3, "stored": True, "collapsed": True},
            "entrepot; hit; ttl=-3",
        ),
        ({"hit": False, "fwd": None}, "entrepot"),
        (
            {"hit": False, "fwd": "uri-miss", "stored": True, "collapsed": True},
            "entrepot; fwd=uri-miss; stored; collapsed",
        ),
        (
            {"hit": False, "fwd": "stale", "fwd_status": 304, "ttl": 600},
            "entrepot; fwd=stale; fwd-status=304; ttl=600",
        ),
        ({"hit": False, "fwd": "bogus"}, "entrepot; fwd=miss"),
        ({"hit": True, "fwd": None, "detail": "OFFLINE"}, "entrepot; hit; detail=OFFLINE"),
        (
            {"hit": True, "fwd": None, "detail": 'a "b" \\ é'},
            'entrepot; hit; detail="a \\"b\\" \\\\ ?"',
        ),
        ({"hit": True, "fwd": None, "detail": ""}, 'entrepot; hit; detail=""'),
        ({"hit": True, "fwd": None, "cache": "9 lives"}, '"9 lives"; hit'),
    ],
)
def test_the_value_is_a_structured_field(named, expected):
    assert cache_status(**named) == expected


OTHER = stored(vary=(("accept", "x"),), cache_control=KEPT)


@pytest.mark.parametrize(
    ("decision", "expected"),
    [
        (decide(get(), stored(cache_control=KEPT)), None),
        (decide(get(cache_control="no-cache"), stored(cache_control=KEPT)), "request"),
        (decide(get(), stored()), "stale"),
        (decide(get()), "uri-miss"),
        (decide(get(), OTHER), "vary-miss"),
        (decide(get(), stored(size=None)), "miss"),
        (decide(get(method="POST")), "method"),
        (decide(get(range="bytes=0-1")), "miss"),
        (decide(get(cache_control="no-store"), stored()), "request"),
        (Miss(Reason.ONLY_IF_CACHED, get()), "miss"),
    ],
)
def test_every_decision_has_its_fwd_word(decision, expected):
    assert forward_reason(decision) == expected
