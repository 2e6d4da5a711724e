"""RFC 9110 §13: the client's preconditions, answered from a stored response."""

import pytest

from cachecases import get, stored, when
from entrepot.httpcache import reply

ETAG = '"a"'
MODIFIED = when(-5000)
ENTRY = stored(etag=ETAG, last_modified=MODIFIED, date=when(0), content_type="a/b", x="1")


def status(entry=ENTRY, method="GET", **named):
    return reply(get(method=method, **named), entry, age=5, size=10).head.status


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ({}, 200),
        ({"if_none_match": '"a"'}, 304),
        ({"if_none_match": 'W/"a"'}, 304),
        ({"if_none_match": '"x", "a", "y"'}, 304),
        ({"if_none_match": ('"x"', '"a"')}, 304),
        ({"if_none_match": "*"}, 304),
        ({"if_none_match": '"x"'}, 200),
        ({"if_none_match": "a"}, 200),
        ({"if_none_match": ""}, 200),
        ({"if_modified_since": MODIFIED}, 304),
        ({"if_modified_since": when(-4000)}, 304),
        ({"if_modified_since": when(-6000)}, 200),
        ({"if_modified_since": "yesterday"}, 200),
        ({"if_none_match": '"a"', "if_modified_since": when(-6000)}, 304),
        ({"if_none_match": '"x"', "if_modified_since": MODIFIED}, 200),
        ({"if_match": '"a"'}, 200),
        ({"if_match": "*"}, 200),
        ({"if_match": '"x"'}, 412),
        ({"if_match": 'W/"a"'}, 412),
        ({"if_match": '"x"', "if_none_match": '"a"'}, 412),
        ({"if_match": '"a"', "if_none_match": '"a"'}, 304),
        ({"if_unmodified_since": MODIFIED}, 200),
        ({"if_unmodified_since": when(-6000)}, 412),
        ({"if_unmodified_since": "yesterday"}, 200),
        ({"if_match": '"a"', "if_unmodified_since": when(-6000)}, 200),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_preconditions_are_evaluated_in_order(named, expected, method):
    assert status(method=method, **named) == expected


@pytest.mark.parametrize(
    ("tag", "asked", "expected"),
    [
        ('W/"a"', '"a"', 304),
        ("abc", "abc", 304),
        ('w/"a"', 'w/"a"', 304),
        ('"aü"', '"aü"', 304),
        (None, '"a"', 200),
    ],
)
def test_odd_tags_are_compared_as_they_are(tag, asked, expected):
    assert status(stored(etag=tag), if_none_match=asked) == expected


def test_without_last_modified_the_date_counts_and_without_that_the_arrival():
    assert status(stored(date=when(-100)), if_modified_since=when(-99)) == 304
    assert status(stored(date=when(-100)), if_modified_since=when(-101)) == 200
    assert status(stored(), if_modified_since=when(0)) == 304


def test_without_validators_a_strong_demand_fails_and_a_date_is_ignored():
    assert status(stored(), if_match='"a"') == 412
    assert status(stored(), if_unmodified_since=when(-100)) == 200


def test_conditions_do_not_touch_what_is_no_success():
    assert status(stored(404, etag='"a"'), if_none_match='"a"') == 404


def test_a_304_has_what_guides_the_update_and_no_length():
    entry = stored(
        etag=ETAG,
        cache_control="max-age=5",
        expires=when(9),
        content_type="a/b",
        content_length="10",
        x="1",
        age="3",
    )
    answer = reply(get(if_none_match=ETAG), entry, age=5, size=10)
    assert dict(answer.head.headers) == {
        "etag": ETAG,
        "cache-control": "max-age=5",
        "expires": when(9),
        "x": "1",
        "Age": "5",
    }
    assert (answer.head.reason, answer.span) == ("Not Modified", None)


def test_a_412_is_empty():
    answer = reply(get(if_match='"x"'), ENTRY, age=5, size=10)
    assert (answer.head.headers.get("content-length"), answer.span, answer.head.reason) == (
        "0",
        None,
        "Precondition Failed",
    )
