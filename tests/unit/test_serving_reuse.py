"""Reuse from other tools' caches, asked for by a crowd."""

import asyncio
import time

from entrepot.httpcache.messages import Headers, RequestHead
from entrepot.serving.known_files import NOTHING
from entrepot.serving.reuse import Reuse
from service_world import World, run

REQUEST = RequestHead("GET", "https://files.test/demo-1.0-py3-none-any.whl", Headers())


def test_the_caches_are_looked_for_once_however_many_ask_at_the_same_time():
    """Each look reads the settings of every tool.

    Fifty of them at once were slower than the download they were to spare.
    """
    calls = []

    def find():
        calls.append(1)
        time.sleep(0.02)
        return []

    async def go():
        world = World()
        world.service()
        reuse = Reuse(find, world.entries, shared=False)
        impatient = asyncio.create_task(reuse.take_over(REQUEST, NOTHING, unproven=True))
        await asyncio.sleep(0)
        crowd = [reuse.take_over(REQUEST, NOTHING, unproven=True) for _ in range(50)]
        impatient.cancel()
        return await asyncio.gather(*crowd)

    assert run(go()) == [None] * 50
    assert len(calls) == 1
