"""RFC 9111 §4.3 and §3.2: validation, what a 304 and a HEAD answer update."""

import pytest

from cachecases import KEPT, NOW, answer, arrive, decide, get, stored, when
from entrepot.errors import ProtocolMisuse
from entrepot.httpcache import (
    Bypass,
    Discard,
    Hit,
    Reason,
    Refresh,
    Stale,
    Store,
    revalidation,
    unconditional,
)

OLD = when(-5000)


def stale(**named):
    return stored(**{"cache_control": "max-age=0", "x_kept": "1", **named})


@pytest.mark.parametrize(
    ("named", "sent"),
    [
        ({"etag": '"a"'}, {"if-none-match": '"a"'}),
        ({"etag": 'W/"a"'}, {"if-none-match": 'W/"a"'}),
        ({"last_modified": OLD}, {"if-modified-since": OLD}),
        ({"etag": '"a"', "last_modified": OLD}, {"if-none-match": '"a"', "if-modified-since": OLD}),
        ({"last_modified": "yesterday"}, {}),
        ({}, {}),
        ({"etag": '"a"', "size": None}, {}),
    ],
)
def test_validation_sends_the_validators_there_are(named, sent):
    request = get(method="HEAD" if "size" in named else "GET", accept="x", connection="close")
    decision = decide(request, stale(**named))
    assert isinstance(decision, Stale)
    assert dict(decision.forward.headers) == {"accept": "x"} | {
        name.title(): value for name, value in sent.items()
    }


def test_the_clients_own_conditions_and_range_are_not_sent_for_validation():
    request = get(
        if_none_match='"mine"',
        if_modified_since=OLD,
        if_range='"mine"',
        range="bytes=0-1",
        if_unmodified_since=when(0),
        accept="x",
    )
    decision = decide(request, stale(etag='"a"'))
    assert list(decision.forward.headers) == [("accept", "x"), ("If-None-Match", '"a"')]


def test_unconditional_asks_plainly():
    request = get(if_none_match='"a"', range="bytes=0-1", connection="x", x="1", accept="y")
    assert list(unconditional(request).headers) == [("accept", "y")]


@pytest.mark.parametrize(
    ("kept", "came", "fits"),
    [
        ({"etag": '"a"'}, {"etag": '"a"'}, True),
        ({"etag": '"a"'}, {"etag": 'W/"a"'}, True),
        ({"etag": '"a"'}, {"etag": '"b"'}, False),
        ({"etag": '"a"', "last_modified": OLD}, {"etag": '"b"', "last_modified": OLD}, False),
        ({"etag": '"a"'}, {}, True),
        ({"last_modified": OLD}, {}, True),
        ({"last_modified": OLD}, {"last_modified": OLD}, True),
        ({"last_modified": OLD}, {"last_modified": when(-4000)}, False),
        ({"last_modified": OLD}, {"etag": '"a"', "last_modified": OLD}, True),
        ({"last_modified": OLD}, {"etag": '"a"'}, False),
        ({}, {}, False),
    ],
)
def test_a_304_must_fit_the_response_that_was_asked_about(kept, came, fits):
    entry = stale(**kept)
    action = arrive(decide(get(), entry), get(), answer(304, **came))
    if fits:
        assert isinstance(action, Refresh)
        assert action.was is entry
    else:
        assert action == Discard(Reason.VALIDATOR_MISMATCH, invalidates=True)


def refreshed(entry, **named):
    action = arrive(decide(get(), entry), get(), answer(304, **named), at=NOW + 50)
    assert isinstance(action, Refresh)
    return action.entry


def test_a_304_replaces_the_fields_it_brings_and_keeps_the_others():
    entry = refreshed(
        stale(etag='"a"', x="old", content_foo="old"),
        cache_control=KEPT,
        x=("new", "newer"),
        content_foo="new",
    )
    headers = entry.head.headers
    assert (headers.get("x"), headers.get("content-foo"), headers.get("x-kept")) == (
        "new, newer",
        "new",
        "1",
    )
    assert headers.get("cache-control") == KEPT


def test_a_304_does_not_replace_what_describes_the_stored_body():
    described = {
        "content_length": "10",
        "content_encoding": "gzip",
        "content_type": "a/b",
        "content_range": "bytes 0-9/10",
    }
    other = {
        "content_length": "0",
        "content_encoding": "br",
        "content_type": "c/d",
        "content_range": "bytes 0-1/2",
    }
    headers = refreshed(stale(etag='"a"', **described), **other).head.headers
    assert {name: headers.get(name.replace("_", "-")) for name in described} == described


def test_a_304_renews_times_date_and_age():
    entry = refreshed(stale(etag='"a"', age="900", date=when(-900), key="k"), date=when(49))
    assert (entry.request_time, entry.response_time) == (NOW + 50, NOW + 50)
    assert (entry.head.headers.get("date"), entry.head.headers.get("age")) == (when(49), None)
    assert (entry.head.status, entry.size, entry.key) == (200, 10, "k")


def test_without_date_in_the_304_the_time_it_arrived_is_taken():
    assert refreshed(stale(etag='"a"', date=when(-900))).head.headers.get("date") == when(50)


def test_a_304_validates_what_was_invalidated():
    assert not refreshed(stale(etag='"a"', invalidated=True)).invalidated


def test_hop_by_hop_fields_of_a_304_are_not_stored():
    assert "x" not in refreshed(stale(etag='"a"'), connection="x", x="1").head.headers


def test_a_304_to_the_clients_own_condition_is_the_clients():
    request = get(if_none_match='"mine"')
    assert arrive(decide(request), request, answer(304, etag='"mine"')) == Discard(
        Reason.NOT_MODIFIED
    )


def test_a_304_that_nobody_asked_for_is_not_used():
    assert arrive(decide(get()), get(), answer(304)) == Discard(Reason.VALIDATOR_MISMATCH)


def test_a_200_replaces_what_was_stale_and_older_ones_it_hides():
    old, entry = stale(key="old", date=when(-9)), stale(key="new", date=when(-1))
    action = arrive(decide(get(), old, entry), get(), answer(cache_control=KEPT))
    assert isinstance(action, Store)
    assert [each.key for each in action.replaces] == ["new", "old"]


def test_revalidation_may_be_asked_for_a_fresh_entry():
    entry = stored(cache_control=KEPT, etag='"a"')
    decision = revalidation(get(), entry, now=NOW, shared=False)
    assert (decision.reason, decision.stale_for) == (Reason.REQUEST_NO_CACHE, 0)
    assert isinstance(arrive(decision, get(), answer(304, etag='"a"')), Refresh)


def test_an_answer_to_a_hit_is_our_own_mistake():
    decision = decide(get(), stored(cache_control=KEPT))
    with pytest.raises(ProtocolMisuse):
        arrive(decision, get(), answer())


HEAD = get(method="HEAD")


def test_head_is_answered_from_a_stored_get():
    assert isinstance(decide(HEAD, stored(cache_control=KEPT)), Hit)


@pytest.mark.parametrize(
    ("kept", "came", "fits"),
    [
        ({}, {"x": "2"}, True),
        ({"etag": '"a"'}, {"etag": '"a"', "content_length": "10"}, True),
        ({"etag": '"a"'}, {"etag": '"b"'}, False),
        ({}, {"etag": '"b"'}, False),
        ({"last_modified": OLD}, {"last_modified": OLD}, True),
        ({"last_modified": OLD}, {"last_modified": when(-1)}, False),
        ({}, {"content_length": "11"}, False),
        ({"content_length": "36"}, {"content_length": "36"}, True),
    ],
)
def test_a_200_to_head_renews_or_contradicts_the_stored_get(kept, came, fits):
    entry = stale(**kept)
    action = arrive(decide(HEAD, entry), HEAD, answer(cache_control=KEPT, **came))
    if fits:
        assert isinstance(action, Refresh)
        assert action.entry.head.headers.get("cache-control") == KEPT
        assert action.entry.size == 10
    else:
        assert action == Discard(Reason.VALIDATOR_MISMATCH, invalidates=True)


def test_a_304_to_head_renews_too():
    entry = stale(etag='"a"')
    assert isinstance(arrive(decide(HEAD, entry), HEAD, answer(304, etag='"a"')), Refresh)


@pytest.mark.parametrize(
    ("entries", "status"),
    [((), 200), ((stale(),), 410), ((stored(404, cache_control="max-age=0"),), 200)],
)
def test_other_answers_to_head_change_nothing(entries, status):
    assert arrive(decide(HEAD, *entries), HEAD, answer(status, cache_control=KEPT)) == Discard(
        Reason.METHOD
    )


@pytest.mark.parametrize(("condition", "held"), [('"a"', True), ('"b"', False)])
def test_if_match_is_answered_only_where_it_is_true(condition, held):
    decision = decide(get(if_match=condition), stored(cache_control=KEPT, etag='"a"'))
    assert isinstance(decision, Hit if held else Bypass)
    if not held:
        assert decision.reason is Reason.PRECONDITION
        assert decision.forward.headers.get("if-match") == '"b"'


def test_if_unmodified_since_is_answered_only_where_it_is_true():
    entry = stored(cache_control=KEPT, last_modified=when(-50))
    assert isinstance(decide(get(if_unmodified_since=when(-40)), entry), Hit)
    assert isinstance(decide(get(if_unmodified_since=when(-60)), entry), Bypass)
