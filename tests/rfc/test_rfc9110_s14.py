"""RFC 9110 §14 and §13.1.5: ranges out of a stored 200."""

import pytest

from cachecases import KEPT, decide, get, stored, when
from entrepot.httpcache import Bypass, Hit, Miss, Reason, Stale, reply

ENTRY = stored(
    etag='"a"', last_modified=when(-5000), date=when(0), content_length="10", content_type="a/b"
)


def answer(entry=ENTRY, size=10, method="GET", **named):
    return reply(get(method=method, **named), entry, age=5, size=size)


@pytest.mark.parametrize(
    ("value", "span"),
    [
        ("bytes=0-1", (0, 2)),
        ("BYTES=0-1", (0, 2)),
        ("bytes=5-5", (5, 6)),
        ("bytes=1-", (1, 10)),
        ("bytes=-1", (9, 10)),
        ("bytes=-99", (0, 10)),
        ("bytes=5-999", (5, 10)),
        ("bytes=5-" + "9" * 5000, (5, 10)),
        ("bytes= 0-1 ", (0, 2)),
        ("bytes=0-1,", (0, 2)),
        ("bytes=0-1, 20-30", (0, 2)),
    ],
)
def test_a_range_gets_its_part(value, span):
    part = answer(range=value)
    start, end = span
    assert (part.head.status, part.span, part.head.reason) == (206, span, "Partial Content")
    assert part.head.headers.get("content-range") == f"bytes {start}-{end - 1}/10"
    assert part.head.headers.get("content-length") == str(end - start)
    assert part.head.headers.get("content-type") == "a/b"


@pytest.mark.parametrize(
    "value",
    [
        "bytes=",
        "bytes",
        "bytes=x-1",
        "bytes=1-x",
        "bytes=5-1",
        "bytes=-",
        "bytes=-x",
        "bytes=5",
        "lines=0-1",
        "bytes=0-1,4-5",
        "bytes=0-1,x",
        "bytes=²-3",
    ],
)
def test_what_is_malformed_foreign_or_several_gets_the_whole(value):
    whole = answer(range=value)
    assert (whole.head.status, whole.span, whole.head.headers.get("content-length")) == (
        200,
        (0, 10),
        "10",
    )


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("bytes=10-", 10),
        ("bytes=20-30", 10),
        ("bytes=-0", 10),
        ("bytes=0-", 0),
        ("bytes=-5", 0),
        ("bytes=10-,11-", 10),
    ],
)
def test_a_range_outside_is_416(value, size):
    outside = answer(range=value, size=size)
    assert (outside.head.status, outside.span) == (416, None)
    assert outside.head.headers.get("content-range") == f"bytes */{size}"
    assert outside.head.headers.get("content-length") == "0"
    assert "content-type" not in outside.head.headers


@pytest.mark.parametrize(
    ("named", "if_range", "expected"),
    [
        ({"etag": '"a"'}, '"a"', 206),
        ({"etag": '"a"'}, '"b"', 200),
        ({"etag": '"a"'}, 'W/"a"', 200),
        ({"etag": 'W/"a"'}, 'W/"a"', 200),
        ({"etag": 'W/"a"'}, '"a"', 200),
        ({}, '"a"', 200),
        ({"etag": '"a"'}, "", 200),
        ({"etag": "a"}, "a", 200),
        ({"last_modified": when(-5000)}, when(-5000), 206),
        ({"last_modified": when(-5000)}, when(-4000), 200),
        ({"last_modified": when(-5)}, when(-5), 200),
        ({}, when(-5000), 200),
        ({"last_modified": "x"}, "x", 200),
    ],
)
def test_if_range_wants_exactly_this_representation(named, if_range, expected):
    assert (
        answer(stored(date=when(0), **named), range="bytes=0-1", if_range=if_range).head.status
        == expected
    )


def test_conditions_come_before_the_range():
    assert answer(range="bytes=0-1", if_none_match='"a"').head.status == 304


def test_head_ignores_the_range_and_tells_the_length():
    whole = answer(method="HEAD", range="bytes=0-1")
    assert (whole.head.status, whole.span, whole.head.headers.get("content-length")) == (
        200,
        None,
        "10",
    )


@pytest.mark.parametrize("status", [203, 404, 302])
def test_only_a_200_has_parts(status):
    assert answer(stored(status), range="bytes=0-1").span == (0, 10)


def test_a_204_has_neither_body_nor_length():
    empty = answer(stored(204), size=0)
    assert (empty.head.status, empty.span, "content-length" in empty.head.headers) == (
        204,
        None,
        False,
    )


def test_the_answer_has_age_the_true_length_and_no_hop_by_hop_field():
    entry = stored(
        age="99", content_length="7", connection="x", x="1", upgrade="h2c", content_range="kept"
    )
    whole = answer(entry)
    assert dict(whole.head.headers) == {"content-range": "kept", "Content-Length": "10", "Age": "5"}


def test_a_range_is_a_hit_where_the_whole_is_stored():
    assert isinstance(decide(get(range="bytes=0-1"), stored(cache_control=KEPT)), Hit)


def test_a_stale_whole_is_validated_whole():
    decision = decide(get(range="bytes=0-1", if_range='"a"'), stored(etag='"a"'))
    assert isinstance(decision, Stale)
    assert list(decision.forward.headers) == [("If-None-Match", '"a"')]


@pytest.mark.parametrize(
    "entries", [(), (stored(size=None, cache_control=KEPT),), (stored(vary=(("x", "1"),)),)]
)
def test_a_range_of_what_is_not_stored_is_passed_on(entries):
    request = get(range="bytes=0-1", if_range='"a"', connection="close")
    decision = decide(request, *entries)
    assert isinstance(decision, Bypass)
    assert decision.reason is Reason.RANGE
    assert list(decision.forward.headers) == [("range", "bytes=0-1"), ("if-range", '"a"')]


def test_what_has_no_body_answers_head_alone():
    bodiless = stored(size=None, cache_control=KEPT)
    assert isinstance(decide(get(method="HEAD"), bodiless), Hit)
    decision = decide(get(), bodiless)
    assert isinstance(decision, Miss)
    assert (decision.reason, decision.superseded) == (Reason.INCOMPLETE, (bodiless,))
    assert isinstance(decide(get(), stored(404, size=None, cache_control=KEPT)), Hit)
