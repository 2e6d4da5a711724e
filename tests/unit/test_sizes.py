"""Sizes and ages as people write and read them."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot import sizes
from entrepot.errors import FormatError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("1234", 1234),
        ("20G", 20_000_000_000),
        ("20GB", 20_000_000_000),
        ("20 gb", 20_000_000_000),
        ("20GiB", 20 * 1024**3),
        ("20Gi", 20 * 1024**3),
        (".5k", 500),
        ("1.5T", 1_500_000_000_000),
        ("7b", 7),
    ],
)
def test_sizes_are_read_in_powers_of_1000_unless_they_say_1024(text, expected):
    assert sizes.parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "GB", "-1", "1e9", "20 GBs", "1 2", "12x", "٣GB"])
def test_what_is_no_size_is_refused_with_an_example(text):
    with pytest.raises(FormatError) as caught:
        sizes.parse_size(text)
    assert caught.value.text == text
    assert "20GB" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("90d", 90),
        ("12w", 84),
        ("6mo", 180),
        ("1y", 365),
        ("36h", 1.5),
        ("30 min", 1 / 48),
        ("86400s", 1),
    ],
)
def test_ages_are_read_with_their_unit(text, days):
    assert sizes.parse_age(text) == pytest.approx(days * 86_400)


@pytest.mark.parametrize("text", ["90", "", "d", "3m", "-1d", "1 fortnight"])
def test_an_age_without_a_clear_unit_is_refused(text):
    with pytest.raises(FormatError):
        sizes.parse_age(text)


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9_949, "9.9 kB"),
        (9_951, "10 kB"),
        (999_499, "999 kB"),
        (999_501, "1.0 MB"),
        (888_000_000, "888 MB"),
        (999_999_999, "1.0 GB"),
        (412_880_000_000, "412.9 GB"),
        (999_960_000_000, "1.0 TB"),
        (10**18, "1000.0 PB"),
    ],
)
def test_sizes_are_shown_in_the_unit_that_keeps_them_short(size, shown):
    assert sizes.show_size(size) == shown


@given(st.integers(min_value=0, max_value=10**17))
def test_a_shown_size_reads_back_within_its_rounding(size):
    assert sizes.parse_size(sizes.show_size(size)) == pytest.approx(size, rel=0.06)


def test_a_last_use_in_the_future_is_today():
    assert sizes.show_age(-5_000) == "today"


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(sizes).failed == 0
