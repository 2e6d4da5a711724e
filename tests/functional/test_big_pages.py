"""Index pages of 20 MB of JSON do not make other clients wait."""

import asyncio
import gc
import json

from entrepot.testing.upstream import Script
from service_world import FILE, INDEX, JSON_TYPE, World, get, page, run
from stopwatch import Stopwatch

BIG = "https://index.test/simple/big/"
LATE_S = 0.25
"""A request out of the store takes a millisecond, reading the page about a second. Busy machines
are allowed for."""


def big_page(count=34_000):
    file = {
        "url": "",
        "filename": "",
        "hashes": {"sha256": "0" * 64},
        "size": 1,
        "requires-python": ">=3.8",
        "yanked": False,
    }
    file |= {
        "upload-time": "2026-01-01T00:00:00.000000Z",
        "core-metadata": {"sha256": "1" * 64},
        "provenance": None,
        "x": "y" * 150,
    }
    names = (f"big-1.{i}-py3-none-any.whl" for i in range(count))
    files = [
        {**file, "filename": name, "url": f"https://files.test/packages/{name}"} for name in names
    ]
    return json.dumps({"meta": {"api-version": "1.1"}, "name": "big", "files": files}).encode()


def test_others_are_answered_at_once_while_a_page_of_20_mb_is_read():
    body = big_page()
    assert len(body) > 15_000_000
    world = World(piece=1 << 18)
    small = b"wheel" * 1000
    world.add_project(small, page_headers={"Cache-Control": "max-age=600"})
    world.upstream.route(BIG, Script(200, {"Content-Type": JSON_TYPE}, body))

    async def go():
        service = world.service()
        await get(service, INDEX)
        await get(service, FILE)
        gc.collect()  # what other tests have left is no part of the product
        waits = []
        big = asyncio.create_task(get(service, BIG))
        while not big.done() or world.facts._reading:
            watch = Stopwatch()
            status, content, _ = await get(service, FILE)
            waits.append(watch.seconds())
            assert (status, content) == (200, small)
            await asyncio.sleep(0.005)
        status, content, _ = await big
        assert content == body
        link = world.catalogue.link("https://files.test/packages/big-1.33999-py3-none-any.whl")
        await service.aclose()
        return waits, link

    waits, link = run(go())
    assert link is not None, "the page was read"
    assert len(waits) > 20
    assert max(waits) < LATE_S, f"somebody waited {max(waits):.3f} s"


def test_a_file_that_a_page_still_being_read_names_waits_for_its_digest():
    world = World()
    good = b"wheel" * 1000
    names = {"url": FILE, "filename": "demo-1.0-py3-none-any.whl"}
    filler = json.loads(big_page(2_000))
    filler["files"].append(json.loads(page(good))["files"][0])
    world.upstream.route(BIG, Script(200, {"Content-Type": JSON_TYPE}, json.dumps(filler).encode()))
    world.upstream.route(names["url"], Script(200, {}, b"WHEEL" * 1000))

    async def go():
        service = world.service()
        await get(service, BIG)
        status, _, _ = await get(service, FILE)
        await service.aclose()
        return status

    assert run(go()) == 502
