import pytest

from entrepot.httpcache import Headers, cache_control, request_directives, response_directives
from entrepot.httpcache.directives import NOTHING
from entrepot.httpcache.fields import MAX_DELTA


@pytest.mark.parametrize(
    ("value", "name", "expected"),
    [
        ("max-age=600", "max_age", 600),
        ("MaX-AgE=600", "max_age", 600),
        ('max-age="600"', "max_age", 600),
        ("max-age=003600", "max_age", 3600),
        ("max-age=1, max-age=9", "max_age", 1),
        ("max-age=9, max-age=1", "max_age", 9),
        ("max-age=99999999999", "max_age", MAX_DELTA),
        ("max-age=-1", "max_age", 0),
        ("max-age='600'", "max_age", 0),
        ("max-age=600.0", "max_age", 0),
        ("max-age=600a", "max_age", 0),
        ("max-age= 600", "max_age", 0),
        ("max-age=", "max_age", 0),
        ("max-age", "max_age", 0),
        ('max-age="600', "max_age", 0),
        ("max-age =600", "max_age", None),
        ('extension="max-age=600"', "max_age", None),
        ('extension="max-age=600", max-age=1', "max_age", 1),
        ("s-maxage=5, max-age=1", "s_maxage", 5),
        ("No-StOrE", "no_store", True),
        ("no-store=1", "no_store", True),
        ("nothing-to-see-here", "no_store", False),
        ("max-stale", "max_stale", MAX_DELTA),
        ("max-stale=5", "max_stale", 5),
        ("max-stale=x", "max_stale", 0),
        ("min-fresh=5", "min_fresh", 5),
        ("only-if-cached", "only_if_cached", True),
        ("stale-while-revalidate=7", "stale_while_revalidate", 7),
        ("stale-if-error=8", "stale_if_error", 8),
        ("no-cache", "no_cache", True),
        ('no-cache=""', "no_cache", True),
        ('no-cache="Set-Cookie"', "no_cache", False),
        ('no-cache="Set-Cookie"', "no_cache_fields", frozenset(["set-cookie"])),
        ("no-cache=a", "no_cache_fields", frozenset(["a"])),
        ('no-cache="a, b", no-cache="c"', "no_cache_fields", frozenset("abc")),
        ('no-cache="a", no-cache', "no_cache", True),
        ('no-cache="Vary"', "no_cache", True),
        ("private", "private", True),
        ('private="x"', "private", False),
        ('private="x"', "private_fields", frozenset(["x"])),
        ("public, must-revalidate", "public", True),
        ("public, must-revalidate", "must_revalidate", True),
        ("proxy-revalidate", "proxy_revalidate", True),
        ("must-understand", "must_understand", True),
        ("immutable", "immutable", True),
        ("", "no_cache", False),
    ],
)
def test_a_directive_is_read_as_rfc_9111_says(value, name, expected):
    assert getattr(cache_control(value), name) == expected


def test_an_absent_field_says_nothing():
    assert cache_control(None) is NOTHING
    assert request_directives(Headers()) is NOTHING


def test_long_values_are_read_like_short_ones():
    assert cache_control("x, " * 1000 + "max-age=5").max_age == 5


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([("Pragma", "no-cache")], True),
        ([("Pragma", "x, No-Cache")], True),
        ([("Pragma", "foo")], False),
        ([("Pragma", "no-cache"), ("Cache-Control", "max-age=1")], False),
    ],
)
def test_pragma_counts_in_requests_without_cache_control(lines, expected):
    assert request_directives(Headers(lines)).no_cache is expected


def test_pragma_says_nothing_in_responses():
    assert not response_directives(Headers({"Pragma": "no-cache"})).no_cache


def test_several_lines_are_one_list():
    cc = response_directives(
        Headers([("Cache-Control", "max-age=1"), ("cache-control", "no-store")])
    )
    assert (cc.max_age, cc.no_store) == (1, True)
