"""RFC 9111 §3: storing, and which fields are stored.

§3.5 authenticated requests; §5.2.2 the directives about it.
"""

import pytest

from cachecases import KEPT, NOW, URL, answer, arrive, decide, get, when
from entrepot.httpcache import Discard, Reason, Store, is_storable

ETAG = '"x"'


@pytest.mark.parametrize(
    ("status", "named", "shared", "expected"),
    [
        (200, {"cache_control": KEPT}, True, None),
        (200, {"cache_control": "s-maxage=5"}, True, None),
        (200, {"cache_control": "s-maxage=5"}, False, Reason.NO_FRESHNESS),
        (200, {"expires": when(60)}, True, None),
        (200, {"expires": "0"}, True, None),
        (200, {"etag": ETAG}, True, None),
        (200, {"last_modified": when(-60)}, True, None),
        (200, {"cache_control": "no-cache", "etag": ETAG}, True, None),
        (200, {}, True, Reason.NO_FRESHNESS),
        (404, {"etag": ETAG}, True, None),
        (403, {"etag": ETAG}, True, Reason.NO_FRESHNESS),
        (403, {"etag": ETAG, "cache_control": "public"}, True, None),
        (299, {"cache_control": KEPT}, True, None),
        (302, {"cache_control": KEPT}, True, None),
        (503, {"cache_control": KEPT}, True, None),
        (599, {"cache_control": KEPT}, True, None),
        (600, {"cache_control": KEPT}, True, Reason.STATUS),
        (103, {"cache_control": KEPT}, True, Reason.STATUS),
        (206, {"cache_control": KEPT}, True, Reason.INCOMPLETE),
        (304, {"cache_control": KEPT}, True, Reason.STATUS),
        (401, {"cache_control": KEPT}, False, Reason.STATUS),
        (416, {"cache_control": KEPT}, False, Reason.STATUS),
        (429, {"cache_control": KEPT}, False, Reason.STATUS),
        (200, {"cache_control": "no-store, max-age=600"}, False, Reason.NO_STORE),
        (200, {"cache_control": "no-store, must-understand, max-age=600"}, True, None),
        (599, {"cache_control": "no-store, must-understand, max-age=600"}, True, Reason.STATUS),
        (599, {"cache_control": "must-understand, max-age=600"}, True, Reason.STATUS),
        (200, {"cache_control": "private, max-age=600"}, True, Reason.PRIVATE),
        (200, {"cache_control": "private, max-age=600"}, False, None),
        (200, {"cache_control": 'private="X", max-age=600'}, True, None),
        (200, {"cache_control": KEPT, "vary": "*"}, True, Reason.VARY_STAR),
        (200, {"cache_control": KEPT, "vary": "Accept, *"}, True, Reason.VARY_STAR),
        (200, {"cache_control": KEPT, "set_cookie": "a=b"}, True, None),
    ],
)
def test_what_may_be_stored(status, named, shared, expected):
    assert is_storable(get(), answer(status, **named), shared=shared) is expected


@pytest.mark.parametrize(
    ("cc", "shared", "expected"),
    [
        ("max-age=600", True, Reason.AUTHORIZATION),
        ("max-age=600", False, None),
        ("max-age=600, public", True, None),
        ("max-age=600, must-revalidate", True, None),
        ("s-maxage=600", True, None),
    ],
)
def test_answers_to_authenticated_requests_need_permission_in_a_shared_cache(cc, shared, expected):
    assert (
        is_storable(get(authorization="Basic eDp5"), answer(cache_control=cc), shared=shared)
        is expected
    )


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "OPTIONS"])
def test_only_answers_to_get_are_stored(method):
    assert (
        is_storable(get(method=method), answer(cache_control=KEPT), shared=False) is Reason.METHOD
    )


def test_a_request_may_forbid_storing():
    assert (
        is_storable(get(cache_control="no-store"), answer(cache_control=KEPT), shared=False)
        is Reason.NO_STORE
    )


def store(shared=False, request=None, **named):
    request = request or get()
    action = arrive(decide(request, shared=shared), request, answer(**named), shared=shared)
    assert isinstance(action, Store)
    return action.entry


def test_hop_by_hop_fields_are_not_stored():
    entry = store(
        connection="a, B",
        a="1",
        b="2",
        c="3",
        keep_alive="timeout=5",
        transfer_encoding="chunked",
        cache_control=KEPT,
    )
    assert entry.head.headers.names() == {"c", "cache-control", "date"}


def test_set_cookie_is_stored_and_private_fields_only_by_a_private_cache():
    cc = 'private="set-cookie", max-age=60'
    assert "set-cookie" in store(set_cookie="a=b", cache_control=cc).head.headers
    assert "set-cookie" not in store(shared=True, set_cookie="a=b", cache_control=cc).head.headers


def test_fields_that_no_cache_names_are_not_stored():
    entry = store(cache_control='no-cache="a, B", max-age=60', a="1", b="2", c="3")
    assert entry.head.headers.names() == {"c", "cache-control", "date"}


def test_a_response_without_date_gets_the_time_it_arrived():
    assert store(cache_control=KEPT).head.headers.get("date") == when(0)
    assert store(cache_control=KEPT, date=when(-5)).head.headers.get("date") == when(-5)


def test_the_entry_has_the_times_and_no_size_yet():
    entry = store(cache_control=KEPT)
    assert (entry.request_time, entry.response_time, entry.size, entry.invalidated) == (
        NOW,
        NOW,
        None,
        False,
    )


def test_what_is_not_storable_is_discarded_with_its_reason():
    assert arrive(decide(get()), get(), answer(cache_control="no-store")) == Discard(
        Reason.NO_STORE
    )


def test_selecting_values_are_those_that_were_sent():
    """A field that ``Connection`` names never reached the origin, so it did not select the answer."""
    entry = store(
        request=get(URL, connection="accept", accept="text/html"), cache_control=KEPT, vary="Accept"
    )
    assert entry.vary == (("accept", None),)
