"""RFC 9110 §5.6.7 and RFC 9111 §4.2: dates, strictly."""

import pytest

from entrepot.httpcache import http_date

SECONDS = 784111777
NEAR = 1_800_000_000.0


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Sun Nov 06 08:49:37 1994",
        "SUN, 06 nov 1994 08:49:37 gMT",
        " Sun, 06 Nov 1994 08:49:37 GMT\t",
    ],
)
def test_the_three_forms_are_read_without_regard_to_case(text):
    assert http_date(text, NEAR) == SECONDS


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "0",
        "-1",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 AEST",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sun 06 Nov 1994 08:49:37 GMT",
        "Sun, 06  Nov  1994 08:49:37 GMT",
        "Sun, 06-Nov-1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08.49.37 GMT",
        "Sun, 06 Nov 1994 8:49:37 GMT",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Xun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nox 1994 08:49:37 GMT",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:49:37 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 06 Nov 1994x08:49:37 GMT",
        "Sun, 0x Nov 1994 08:49:37 GMT",
        "Sun, \N{FULLWIDTH DIGIT ZERO}6 Nov 1994 08:49:37 GMT",
        "Sunday, 31-Feb-94 08:49:37 GMT",
        "Sunday, 06-Nox-94 08:49:37 GMT",
        "Sunday, 06-Nov-1994 08:49:37 GMT",
        "Noday, 06-Nov-94 08:49:37 GMT",
        "Xun Nov  6 08:49:37 1994",
        "Sun-Nov- 6 08:49:37 1994",
        "Sun Nov  6 08:49:37 19x4",
        "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:38 GMT",
    ],
)
def test_anything_else_is_no_date(text):
    assert http_date(text, NEAR) is None


def test_a_leap_second_is_a_date():
    assert http_date("Sat, 31 Dec 2016 23:59:60 GMT", NEAR) == http_date(
        "Sun, 01 Jan 2017 00:00:00 GMT", NEAR
    )


@pytest.mark.parametrize(
    ("two", "four"), [("27", 2027), ("77", 2077), ("78", 1978), ("99", 1999), ("00", 2000)]
)
def test_two_digit_years_lie_at_most_fifty_years_ahead(two, four):
    imf = http_date(f"Mon, 01 Mar {four} 00:00:00 GMT", NEAR)
    assert http_date(f"Monday, 01-Mar-{two} 00:00:00 GMT", NEAR) == imf


def test_dates_beyond_32_bits_are_dates():
    assert (http_date("Sun, 21 Nov 2286 04:46:39 GMT", NEAR) or 0) > 2**32
