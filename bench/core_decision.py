"""Median microseconds of a hit decision and of a store decision of the HTTP cache core.

    python bench/core_decision.py [--rounds N]

One round is 200 decisions; the median over all rounds is printed, and the best round. The request
and the response have the fields that an installer and an index behind a CDN really send.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from entrepot.httpcache import (
    Headers,
    Hit,
    Miss,
    RequestHead,
    ResponseHead,
    Store,
    lookup,
    on_response,
    reply,
)

REQUEST = RequestHead(
    "GET",
    "https://index.test/simple/example/",
    Headers(
        {
            "Host": "index.test",
            "User-Agent": "installer/1.0",
            "Accept": "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01",
            "Accept-Encoding": "gzip, deflate, br",
            "Connection": "keep-alive",
        }
    ),
)
RESPONSE = ResponseHead(
    200,
    Headers(
        {
            "Content-Type": "application/vnd.pypi.simple.v1+json",
            "Content-Length": "54321",
            "Connection": "keep-alive",
            "ETag": '"0123456789abcdef"',
            "Last-Modified": "Fri, 20 Nov 2026 10:00:00 GMT",
            "Cache-Control": "max-age=600, public",
            "Content-Encoding": "gzip",
            "Date": "Sat, 21 Nov 2026 10:00:00 GMT",
            "Age": "17",
            "Vary": "Accept, Accept-Encoding",
            "X-Served-By": "cache-a, cache-b",
            "X-Cache": "HIT, MISS",
            "Strict-Transport-Security": "max-age=31536000; includeSubDomains; preload",
        }
    ),
    "OK",
)
NOW = 1_795_255_200.0
ROUND = 200


def median_us(function, rounds):
    """Median and least microseconds of one call."""
    function()
    took = []
    for _ in range(rounds):
        start = time.perf_counter_ns()
        for _ in range(ROUND):
            function()
        took.append((time.perf_counter_ns() - start) / ROUND / 1000)
    return statistics.median(took), min(took)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    rounds = parser.parse_args().rounds
    miss = lookup(REQUEST, [], now=NOW, shared=False)
    assert isinstance(miss, Miss)

    def store():
        return on_response(
            miss, REQUEST, RESPONSE, request_time=NOW, response_time=NOW + 0.1, shared=False
        )

    stored = store()
    assert isinstance(stored, Store)
    entry = replace(stored.entry, size=54321)
    bare = replace(entry, vary=())

    def hit():
        return lookup(REQUEST, [entry], now=NOW + 10, shared=False)

    assert isinstance(hit(), Hit)
    for name, function in (
        ("hit", hit),
        ("hit, no Vary", lambda: lookup(REQUEST, [bare], now=NOW + 10, shared=False)),
        ("miss", lambda: lookup(REQUEST, [], now=NOW, shared=False)),
        ("store", store),
        ("reply", lambda: reply(REQUEST, entry, age=10, size=54321)),
    ):
        median, least = median_us(function, rounds)
        print(f"{name:14} median {median:6.2f} us   best {least:6.2f} us")


if __name__ == "__main__":
    main()
