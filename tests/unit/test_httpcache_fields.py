import pytest

from entrepot.httpcache.fields import (
    MAX_DELTA,
    EntityTag,
    age_value,
    delta_seconds,
    entity_tag,
    entity_tags,
    format_date,
    forwardable,
    list_members,
    number,
    unquoted,
)
from entrepot.httpcache.messages import Headers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("007", 7),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("1.0", None),
        (" 1", None),
        ("²", None),
        ("\N{ARABIC-INDIC DIGIT ONE}", None),
        ("9" * 18, 10**18 - 1),
        ("9" * 19, 10**18),
        ("0" * 5000 + "5", 5),
        ("0" * 5000, 0),
        ("9" * 5000, 10**18),
    ],
)
def test_a_number_is_ascii_digits_and_never_expensive(text, expected):
    assert number(text) == expected


def test_delta_seconds_stop_at_two_to_the_thirty_first():
    assert delta_seconds("2147483649") == MAX_DELTA
    assert delta_seconds("x") is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, 0),
        ("30", 30),
        ("7200, 0", 7200),
        ("0, 7200", 0),
        ("7200 , 0", 7200),
        ("abc", 0),
        ("-7200", 0),
        ("7200.0", 0),
        ("7200;foo=bar", 0),
        (", 5", 0),
        ("99999999999", MAX_DELTA),
    ],
)
def test_age_is_its_first_member_or_nothing(value, expected):
    assert age_value(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", []),
        (" , ,", []),
        ("a, b ,c", ["a", "b", "c"]),
        ('a="x, y", b', ['a="x, y"', "b"]),
        (r'a="x\", y", b', [r'a="x\", y"', "b"]),
        ('"x", b', ['"x"', "b"]),
        ('a="x, no-store', ['a="x', "no-store"]),
        ('a=1, "', ["a=1", '"']),
        ('x="\\', ['x="\\']),
    ],
)
def test_lists_split_at_commas_outside_quotes(value, expected):
    assert list_members(value) == expected


def test_a_hostile_list_of_quotes_takes_linear_time():
    assert len(list_members('"\\' * 200_000 + ",a")) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", "a"),
        ('"a"', "a"),
        ('"', '"'),
        ('""', ""),
        ('"a', '"a'),
        ('"a"b', '"a"b'),
        (r'"a\"b\\c"', r"a\"b\c".replace(r"\"", '"')),
    ],
)
def test_quoted_strings_lose_quotes_and_escapes(text, expected):
    assert unquoted(text) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("  ", None),
        ('"x"', EntityTag(weak=False, opaque='"x"')),
        (' "x" ', EntityTag(weak=False, opaque='"x"')),
        ('W/"x"', EntityTag(weak=True, opaque='"x"')),
        ('""', EntityTag(weak=False, opaque='""')),
        ("x", EntityTag(weak=True, opaque="x")),
        ('w/"x"', EntityTag(weak=True, opaque='w/"x"')),
        ('"', EntityTag(weak=True, opaque='"')),
        ('"a"b"', EntityTag(weak=True, opaque='"a"b"')),
    ],
)
def test_malformed_entity_tags_stay_whole_and_weak(value, expected):
    assert entity_tag(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("*", None),
        (" * ", None),
        ("", []),
        ('"a", W/"b" ,"c"', ['"a"', '"b"', '"c"']),
        ('"a,b", "c"', ['"a,b"', '"c"']),
        ('"a\\", "b"', ['"a\\"', '"b"']),
        ("a, b", ["a", "b"]),
        ('"a, b', ['"a, b']),
        ('"a"x, "b"', ['"a"x', '"b"']),
        ('W/"a", W/b', ['"a"', "W/b"]),
    ],
)
def test_entity_tag_lists_are_split_by_their_own_rules(value, expected):
    tags = entity_tags(value)
    assert (tags if tags is None else [tag.opaque for tag in tags]) == expected


def test_strong_comparison_wants_two_strong_tags():
    strong, weak = EntityTag(weak=False, opaque='"x"'), EntityTag(weak=True, opaque='"x"')
    assert strong.matches(weak)
    assert strong.matches_strongly(strong)
    assert not strong.matches_strongly(weak)
    assert not weak.matches_strongly(strong)


def test_format_date_is_an_imf_fixdate_whatever_the_locale():
    assert format_date(784111777.9) == "Sun, 06 Nov 1994 08:49:37 GMT"


def test_forwardable_leaves_out_hop_by_hop_fields_and_those_connection_names():
    headers = Headers(
        [
            ("Connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("TE", "trailers"),
            ("Upgrade", "h2c"),
            ("Via", "1.1 a"),
        ]
    )
    assert list(forwardable(headers)) == [("Via", "1.1 a")]


def test_forwardable_returns_headers_without_hop_by_hop_fields_as_they_are():
    headers = Headers({"Accept": "a"})
    assert forwardable(headers) is headers
