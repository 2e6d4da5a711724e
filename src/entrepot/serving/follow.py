"""Following a download that another process leads.

Its bytes as they come, and never two beginnings taken for one.
"""

from __future__ import annotations

from entrepot.ports.store import PartialFile, Store
from entrepot.serving.fetch_request import Note


class Follower:
    """What is seen of a flight from outside.

    Its leader may begin again at byte 0, in another file; so may the next leader. Each beginning
    has a mark of its own in the note, and a view is taken only of a file that certainly is the
    note's.

    Args:
        store: where it grows.
        name: of the flight.

    Raises:
        StoreError: from every method.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name
        self._raw = b""
        self._size = 0
        self.view: PartialFile | None = None
        """The file of :attr:`note`; open as long as somebody may read from it."""
        self.note: Note | None = None

    def look(self) -> bool:
        """Look again; ``True`` when there is more to see, or something else."""
        here = self.view or self._store.open_partial(self._name)
        raw = here.state() or b""
        if raw and raw != self._raw:
            return self._take(raw)
        size = self.view.size() if self.view is not None else 0
        grown, self._size = size != self._size, size
        return grown

    def _take(self, raw: bytes) -> bool:
        """View the file that this note is of.

        The one that lies there both before and after the note was read.
        """
        note = Note.from_bytes(raw)
        view = self._store.open_partial(self._name)
        size = view.size()
        if note is None or not size or view.state() != raw or not view.is_current():
            view.close()
            return False  # it is just being begun, or replaced: it will be there at the next look
        self.view, self.note, self._raw, self._size = view, note, raw, size
        return True
