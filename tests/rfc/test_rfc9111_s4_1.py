"""RFC 9111 §4.1: Vary, selecting among variants, and the entity tags of the others."""

import pytest

from cachecases import KEPT, URL, answer, arrive, decide, fields, get, stored, when
from entrepot.httpcache import (
    Discard,
    Hit,
    Miss,
    Reason,
    Refresh,
    Stale,
    can_reuse_for,
    selecting_values,
)

JSON, HTML = "application/json", "text/html"


def variant(accept, key, **named):
    return stored(
        key=key, vary=(("accept", accept),), cache_control=KEPT, **{"etag": f'"{key}"', **named}
    )


@pytest.mark.parametrize(
    ("vary", "named", "expected"),
    [
        (None, {}, ()),
        ("", {}, ()),
        ("Foo", {"foo": "1"}, (("foo", "1"),)),
        ("Foo", {}, (("foo", None),)),
        ("foo, FOO, Bar", {"foo": "1", "bar": "2"}, (("bar", "2"), ("foo", "1"))),
        ("Foo", {"foo": "1,2"}, (("foo", "1, 2"),)),
        ("Foo", {"foo": ("1", "2")}, (("foo", "1, 2"),)),
        ("Foo", {"foo": " 1 ,  2 "}, (("foo", "1, 2"),)),
        ("Foo", {"foo": 'a="1 ,2"'}, (("foo", 'a="1 ,2"'),)),
        ("Foo", {"foo": "B, a"}, (("foo", "B, a"),)),
        ("Accept-Language", {"accept_language": "eN , DE"}, (("accept-language", "de, en"),)),
        ("Accept-Encoding", {"accept_encoding": "GZIP"}, (("accept-encoding", "gzip"),)),
        ("*", {}, None),
        ("*, *", {}, None),
        (", *", {}, None),
        ("Foo, *", {}, None),
        ("*, Foo", {}, None),
    ],
)
def test_selecting_values_are_normalised(vary, named, expected):
    assert selecting_values(vary, fields(named)) == expected


@pytest.mark.parametrize("name", ["Authorization", "Cookie", "Proxy-Authorization"])
def test_credentials_never_appear_among_selecting_values(name):
    ((_, value),) = selecting_values(name, fields({name.replace("-", "_"): "secret"}))
    assert value == "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"


def test_very_long_values_select_like_short_ones():
    long = ",".join(["a"] * 600)
    assert selecting_values("Foo", fields({"foo": long})) == (("foo", ", ".join(["a"] * 600)),)


@pytest.mark.parametrize(
    ("vary", "named", "matches"),
    [
        ((("foo", "1"),), {"foo": "1"}, True),
        ((("foo", "1"),), {"foo": "2"}, False),
        ((("foo", "1"),), {}, False),
        ((("foo", None),), {"foo": "1"}, False),
        ((("foo", None),), {}, True),
        ((("bar", "a"), ("foo", "1")), {"foo": "1", "bar": "b"}, False),
        ((("*", "\n"),), {}, False),
        ((), {"foo": "1"}, True),
    ],
)
def test_a_request_selects_what_has_its_values(vary, named, matches):
    assert can_reuse_for(get(**named), stored(vary=vary)) is matches


def test_of_several_the_most_recent_by_date_is_used():
    old = stored(key="old", cache_control=KEPT, date=when(-20))
    new = stored(key="new", cache_control=KEPT, date=when(-10), since=-5)
    assert decide(get(), old, new).entry.key == "new"
    assert decide(get(), new, old).entry.key == "new"


def test_without_date_the_last_to_arrive_is_used():
    first, second = (
        stored(key="1", cache_control=KEPT),
        stored(key="2", cache_control=KEPT, since=1_800_000_001.0),
    )
    assert decide(get(), second, first, after=2).entry.key == "2"


def test_a_request_gets_its_own_variant():
    decision = decide(get(accept=HTML), variant(JSON, "j"), variant(HTML, "h"))
    assert isinstance(decision, Hit)
    assert decision.entry.key == "h"


def test_a_miss_offers_the_tags_of_other_variants_and_forgets_last_modified():
    decision = decide(
        get(accept="x"), variant(JSON, "j", last_modified=when(-9)), variant(HTML, "h")
    )
    assert isinstance(decision, Miss)
    assert decision.reason is Reason.VARY_MISS
    assert decision.forward.headers.get("if-none-match") == '"j", "h"'
    assert "if-modified-since" not in decision.forward.headers
    assert [each.key for each in decision.variants] == ["j", "h"]


@pytest.mark.parametrize(
    "entry",
    [
        variant(JSON, "weak", etag='W/"j"'),
        variant(JSON, "none", etag=None),
        variant(JSON, "unquoted", etag="j"),
        stored(size=None, vary=(("accept", JSON),), etag='"j"'),
        stored(invalidated=True, vary=(("accept", JSON),), etag='"j"'),
    ],
    ids=lambda each: each.key,
)
def test_only_strong_tags_of_usable_variants_are_offered(entry):
    decision = decide(get(accept=HTML), entry)
    assert "if-none-match" not in decision.forward.headers
    assert decision.variants == ()


def test_a_tag_that_two_variants_share_tells_nothing():
    decision = decide(
        get(accept="x"), variant(JSON, "j", etag='"s"'), variant(HTML, "h", etag='"s"')
    )
    assert decision.variants == ()


@pytest.mark.parametrize(
    "condition", ["if_none_match", "if_modified_since", "if_match", "if_unmodified_since"]
)
def test_nothing_is_offered_beside_the_clients_own_conditions(condition):
    request = get(accept=HTML, **{condition: '"c"'})
    decision = decide(request, variant(JSON, "j"))
    assert list(decision.forward.headers) == list(request.headers)
    assert decision.variants == ()


def test_head_is_offered_nothing():
    assert decide(get(method="HEAD", accept=HTML), variant(JSON, "j")).variants == ()


def test_a_304_makes_the_variant_it_names_answer_the_new_request_too():
    request = get(accept="x")
    json = variant(JSON, "j")
    action = arrive(
        decide(request, json, variant(HTML, "h")), request, answer(304, etag='"j"', vary="Accept")
    )
    assert isinstance(action, Refresh)
    assert action.was is json
    assert action.entry.vary == (("accept", "x"),)
    assert action.entry.key == ""
    assert can_reuse_for(request, action.entry)


@pytest.mark.parametrize("named", [{}, {"etag": '"other"'}, {"last_modified": when(-9)}])
def test_a_304_that_names_no_variant_is_not_used(named):
    request = get(accept="x")
    action = arrive(
        decide(request, variant(JSON, "j", last_modified=when(-9))), request, answer(304, **named)
    )
    assert action == Discard(Reason.VALIDATOR_MISMATCH)


def test_a_variant_of_another_request_never_takes_part_in_validation():
    """Two variants with one Last-Modified: only the request's own may be validated."""
    json, html = (
        variant(JSON, "j", last_modified=when(-9)),
        variant(HTML, "h", last_modified=when(-9)),
    )
    decision = decide(get(accept=HTML, cache_control="no-cache"), json, html)
    assert isinstance(decision, Stale)
    assert decision.entry is html
    assert decision.forward.headers.get("if-none-match") == '"h"'


def test_a_304_that_brings_vary_star_leaves_an_entry_that_nothing_selects():
    entry = stored(etag='"a"', cache_control="max-age=0")
    action = arrive(decide(get(URL), entry), get(URL), answer(304, etag='"a"', vary="*"))
    assert isinstance(action, Refresh)
    assert not can_reuse_for(get(URL), action.entry)
    assert not can_reuse_for(get(URL, **{"*": ""}), action.entry)
