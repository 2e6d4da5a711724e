"""entrepot's own store as this package works on it: open, with its catalogue.

What lists, removes and verifies stands in ``own.py`` and ``verify.py``. Nothing heavy is imported:
``where`` says where the store is without loading what reads it.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from entrepot.errors import ProtocolMisuse

if TYPE_CHECKING:
    from entrepot.ports.catalogue import Catalogue
    from entrepot.ports.store import Store

    class Listed(Protocol):
        """One head as a listing of the catalogue gives it.

        What ``list`` shows, without the response's fields.
        """

        @property
        def key(self) -> str: ...  # noqa: D102
        @property
        def url(self) -> str: ...  # noqa: D102
        @property
        def kind(self) -> str: ...  # noqa: D102
        @property
        def project(self) -> str | None: ...  # noqa: D102
        @property
        def version(self) -> str | None: ...  # noqa: D102
        @property
        def filename(self) -> str | None: ...  # noqa: D102
        @property
        def size(self) -> int | None: ...  # noqa: D102
        @property
        def disk(self) -> int: ...  # noqa: D102
        @property
        def body(self) -> str | None: ...  # noqa: D102
        @property
        def used(self) -> float: ...  # noqa: D102
        @property
        def response_time(self) -> float: ...  # noqa: D102
        @property
        def proven(self) -> int: ...  # noqa: D102
        @property
        def status(self) -> int: ...  # noqa: D102

    class Ledger(Catalogue, Protocol):
        """A catalogue that can also list and sum up its rows without making heads of them."""

        @property
        def degraded(self) -> bool:
            """Whether the disk refused: what is recorded now is forgotten with the process."""
            ...

        def listing(self) -> Iterator[Listed]:
            """Every head known, light."""
            ...

        def tallies(self) -> Mapping[str, tuple[str, tuple[int, int, int, int, float]]]:
            """Kind -> a key of it; heads, distinct bodies, bytes of content and disk, last use."""
            ...


NAME = "entrepot"
"""The store's name among the tools."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Opened:
    """The store and its catalogue, open."""

    store: Store
    ledger: Ledger


def read_object(store: Store, key: str) -> bytes | None:
    """A small object's bytes; ``None`` if there is none."""
    blob = store.open(key)
    if blob is None:
        return None
    try:
        return blob.read(0, blob.size)
    finally:
        blob.close()


def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never really waits.

    Raises:
        ProtocolMisuse: it wanted to wait, for which there is no event loop here.
    """
    try:
        coroutine.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    coroutine.close()
    raise ProtocolMisuse("a store that waits was used where there is no event loop")


class Loop:
    """An event loop for deletions, made at the first one. A context manager."""

    def __init__(self) -> None:
        self._runner: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._runner is not None:
            self._runner.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine, waited for."""
        if self._runner is None:
            import asyncio  # noqa: PLC0415  (not for those who only look)

            self._runner = asyncio.Runner()
        value: T = self._runner.run(coroutine)
        return value
