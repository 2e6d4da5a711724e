"""RFC 9111 §4.4: invalidation."""

import pytest

from cachecases import KEPT, URL, answer, arrive, decide, get, stored
from entrepot.httpcache import Bypass, Discard, Reason, invalidated_urls

BASE = "https://index.test/simple/"


@pytest.mark.parametrize(
    ("method", "status", "invalidates"),
    [
        ("POST", 200, True),
        ("PUT", 201, True),
        ("DELETE", 204, True),
        ("M-SEARCH", 200, True),
        ("POST", 303, True),
        ("POST", 404, False),
        ("POST", 500, False),
        ("OPTIONS", 200, False),
        ("PROPFIND", 207, False),
    ],
)
def test_unsafe_and_unknown_methods_invalidate_when_they_succeed(method, status, invalidates):
    request = get(method=method)
    decision = decide(request, stored(cache_control=KEPT))
    assert decision == Bypass(Reason.METHOD, request)
    assert arrive(decision, request, answer(status)) == Discard(
        Reason.METHOD, invalidates=invalidates
    )


@pytest.mark.parametrize(
    ("named", "also"),
    [
        ({}, []),
        ({"location": "other/"}, [URL + "other/"]),
        ({"location": "/x#part"}, ["https://index.test/x"]),
        ({"location": "https://index.test:443/x"}, ["https://index.test:443/x"]),
        (
            {"content_location": "/y", "location": "/x"},
            ["https://index.test/x", "https://index.test/y"],
        ),
        ({"location": URL}, []),
        ({"location": "https://files.test/x"}, []),
        ({"location": "http://index.test/x"}, []),
        ({"location": "https://index.test:444/x"}, []),
        ({"location": "//[broken"}, []),
        ({"location": "https://index.test:port/"}, []),
    ],
)
def test_locations_of_the_same_origin_are_invalidated_too(named, also):
    assert invalidated_urls(get(method="POST"), answer(201, **named)) == [URL, *also]


def test_a_failure_invalidates_nothing():
    assert invalidated_urls(get(method="POST"), answer(500, location="/x")) == []


def test_a_contradicted_validation_invalidates_the_target_alone():
    assert invalidated_urls(get(), answer(304, location="/x")) == [URL]
