"""Disk work off the event loop, finished before anybody closes the files it works on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[..., T], *args: object) -> T:
    """``work(*args)`` in a thread.

    When this task is cancelled the thread is waited for first, then the cancelling goes on.

    Otherwise the caller's clean-up would close a descriptor in the thread's hands, and its number
    might be another file's by then.
    """
    import asyncio  # noqa: PLC0415 - not for those who only look

    task = asyncio.ensure_future(asyncio.to_thread(work, *args))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        task.exception()  # seen: the cancelling is the news
        raise
