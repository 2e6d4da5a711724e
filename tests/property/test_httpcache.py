"""Invariants of the cache core over arbitrary, hostile and plausible heads."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from cachecases import NOW
from entrepot.httpcache import (
    Headers,
    Hit,
    Reason,
    Refresh,
    RequestHead,
    ResponseHead,
    Stale,
    Store,
    StoredResponse,
    cache_status,
    can_reuse_for,
    current_age,
    format_date,
    forward_reason,
    forwardable,
    freshness_lifetime,
    http_date,
    invalidated_urls,
    lookup,
    on_failure,
    on_response,
    reply,
)
from entrepot.httpcache.fields import HOP_BY_HOP, entity_tags, list_members
from entrepot.httpcache.partial import requested_span

NAMES = (
    "Age Authorization Cache-Control Connection Content-Length Content-Location Content-Range Cookie Date ETag Expires "
    "If-Match If-Modified-Since If-None-Match If-Range If-Unmodified-Since Last-Modified Location Pragma Range Set-Cookie TE "
    "Vary X-Other Accept"
).split()
WORDS = (
    "max-age=600 max-age=0 s-maxage=5 no-cache no-store private public must-revalidate max-stale max-stale=9 min-fresh=5 "
    'only-if-cached stale-while-revalidate=9 stale-if-error=9 must-understand no-cache="x-other" private="date" * "a" W/"a" '
    'bytes=0-4 bytes=-3 bytes=9- bytes=a 0 7 99999999999 -1 Accept Cookie close " /other //[x'
).split()
DATES = (format_date(NOW), format_date(NOW - 5000), "Sunday, 06-Nov-94 08:49:37 GMT")
PIECES = st.sampled_from([*WORDS, *DATES])
VALUES = st.one_of(
    st.lists(PIECES, max_size=3).map(", ".join),
    st.text(st.characters(), max_size=30),
    st.text('",=\\ W/abc019-*', max_size=40),
)
HEADERS = st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=6).map(Headers)
REQUESTS = st.builds(
    RequestHead,
    st.sampled_from(["GET", "GET", "GET", "HEAD", "POST"]),
    st.just("https://index.test/a?b"),
    HEADERS,
)
RESPONSES = st.builds(
    ResponseHead, st.sampled_from([200, 200, 200, 304, 404, 206, 301, 503, 100, 999]), HEADERS
)
TIMES = st.floats(0, 4e9)


@st.composite
def entries(draw):
    came = draw(TIMES)
    vary = draw(st.sampled_from([(), (), (("accept", None),), (("accept", "x"),)]))
    size = draw(st.sampled_from([None, 0, 10]))
    response = ResponseHead(draw(st.sampled_from([200, 200, 404, 204])), draw(HEADERS))
    return StoredResponse(
        response, vary, came - draw(st.floats(0, 100)), came, size, draw(st.booleans())
    )


ENTRIES = st.lists(entries(), max_size=3)


@settings(max_examples=200, deadline=None)
@given(REQUESTS, ENTRIES, RESPONSES, TIMES, st.booleans())
def test_no_exchange_ever_raises_and_what_is_kept_is_clean(request, stored, response, now, shared):
    decision = lookup(request, stored, now=now, shared=shared)
    assert cache_status(hit=False, fwd=forward_reason(decision))
    if isinstance(decision, Hit):
        return
    assert HOP_BY_HOP.isdisjoint(decision.forward.headers.names())
    on_failure(decision, status=503)
    invalidated_urls(request, response)
    action = on_response(
        decision, request, response, request_time=now, response_time=now, shared=shared
    )
    if isinstance(action, Store | Refresh):
        assert HOP_BY_HOP.isdisjoint(action.entry.head.headers.names())
        assert action.entry.response_time == now
    if isinstance(action, Store):
        assert response.status not in (100, 206, 304, 999)
        assert can_reuse_for(decision.forward, action.entry)


@settings(max_examples=200, deadline=None)
@given(REQUESTS, entries(), TIMES, st.booleans())
def test_a_hit_is_fresh_unless_the_request_takes_stale_ones(request, stored, now, shared):
    decision = lookup(request, [stored], now=now, shared=shared)
    if not isinstance(decision, Hit):
        return
    lifetime = freshness_lifetime(stored, shared=shared)
    if decision.reason is Reason.FRESH:
        assert lifetime is not None
        assert lifetime > decision.age
    else:
        assert decision.reason is Reason.MAX_STALE
        assert "max-stale" in (request.headers.get("cache-control") or "").lower()
    assert not stored.invalidated
    assert decision.age == current_age(stored, now)


@settings(max_examples=200, deadline=None)
@given(entries(), TIMES, TIMES)
def test_age_never_falls_while_time_goes_on(stored, one, other):
    assert 0 <= current_age(stored, min(one, other)) <= current_age(stored, max(one, other))


@settings(max_examples=200, deadline=None)
@given(entries(), TIMES, st.booleans(), REQUESTS)
def test_what_was_confirmed_is_as_fresh_as_its_new_fields_say(stored, now, shared, request):
    request = replace(request, method="GET")
    decision = lookup(request, [stored], now=now, shared=shared)
    if isinstance(decision, Stale):
        answer = ResponseHead(
            304,
            Headers(
                {"Cache-Control": "max-age=600", "ETag": stored.head.headers.get("etag") or ""}
            ),
        )
        action = on_response(
            decision, request, answer, request_time=now, response_time=now, shared=shared
        )
        if isinstance(action, Refresh):
            assert current_age(action.entry, now) == 0
            assert not action.entry.invalidated
            assert action.entry.size == stored.size


@settings(max_examples=200, deadline=None)
@given(REQUESTS, entries(), st.integers(0, 12))
def test_a_reply_is_consistent_in_itself(request, stored, size):
    answer = reply(request, stored, age=3, size=size)
    length, headers = answer.head.headers.get("content-length"), answer.head.headers
    assert headers.all("age") == ("3",)
    assert HOP_BY_HOP.isdisjoint(headers.names())
    if answer.span is not None:
        start, end = answer.span
        assert 0 <= start <= end <= size
        assert length == str(end - start)
    if answer.head.status == 304:
        assert length is None
        assert answer.span is None
    if answer.head.status == 206:
        assert answer.span is not None
        assert (
            headers.get(
                "content-range",
            )
            == f"bytes {answer.span[0]}-{answer.span[1] - 1}/{size}"
        )


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60), st.integers(0, 100))
def test_parsers_take_any_text(text, size):
    http_date(text, NOW)
    list_members(text)
    entity_tags(text)
    requested_span(text, size)
    requested_span("bytes=" + text, size)


@given(st.integers(-62_135_596_800, 253_402_300_799))
def test_dates_survive_the_round_trip(seconds):
    assert http_date(format_date(seconds), NOW) == seconds


@given(HEADERS)
def test_forwardable_is_idempotent(headers):
    once = forwardable(headers)
    assert forwardable(once) == once
