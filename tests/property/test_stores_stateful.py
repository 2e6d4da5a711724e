"""A store beside a dict: whatever is done, in whatever order, both say the same."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from entrepot.store.directory import DirectoryStore
from entrepot.testing.memory_store import MemoryStore
from entrepot.testing.store_suite import body, content, keys

KEYS = st.sampled_from(
    ["heads/ab/cd/0", "heads/ab/cd/1", "heads/ab/ef/0", "heads/ff/cd/0", body(b"x"), "top"]
)
DATA = st.sampled_from([b"", b"a", b"bb" * 3000])
NAMES = st.sampled_from(["f", "g"])


class StoreMachine(RuleBasedStateMachine):
    """Objects, open blobs and two flights, against plain values."""

    def __init__(self):
        super().__init__()
        self.objects = {}
        self.open = []
        self.leaders = {}
        self.parts = {}
        self.notes = {}

    def make(self):
        return MemoryStore()

    @initialize()
    def start(self):
        self.store = self.make()

    @rule(key=KEYS, data=DATA)
    def put(self, key, data):
        assert self.store.put(key, data).size == len(data)
        self.objects[key] = data

    @rule(key=KEYS)
    def delete(self, key):
        assert (self.store.delete(key) is not None) == (key in self.objects)
        self.objects.pop(key, None)

    @rule(key=KEYS)
    def open_one(self, key):
        blob = self.store.get(key)
        assert (blob is not None) == (key in self.objects)
        if blob is not None:
            self.open.append((blob, self.objects[key]))

    @rule(key=KEYS)
    def touch(self, key):
        self.store.touch(key)

    @rule(name=NAMES)
    def lead(self, name):
        flight = self.store.open_partial(name)
        assert flight.try_lock() == (name not in self.leaders)
        if name not in self.leaders:
            self.leaders[name] = flight
            assert flight.read(0, 10**6) == self.parts.get(name, b"")

    @rule(name=NAMES, data=DATA)
    def write(self, name, data):
        if name in self.leaders:
            self.leaders[name].write(data)
            self.parts[name] = self.parts.get(name, b"") + data

    @rule(name=NAMES)
    def describe(self, name):
        if name in self.leaders:
            self.leaders[name].set_state(b"note")
            self.notes[name] = b"note"

    @rule(name=NAMES)
    def restart(self, name):
        if name in self.leaders:
            self.leaders[name].restart()
            self.forget(name)

    @rule(name=NAMES)
    def commit(self, name):
        if name in self.leaders:
            data = self.parts.get(name, b"")
            assert self.leaders[name].commit(body(data)).size == len(data)
            self.objects[body(data)] = data
            self.end(name)

    @rule(name=NAMES)
    def discard(self, name):
        if name in self.leaders:
            self.leaders[name].discard()
            self.end(name)

    @rule(name=NAMES)
    def leave(self, name):
        """Give up the lead; bytes stay, and with them the note."""
        if name in self.leaders:
            self.leaders.pop(name).close()
            if not self.parts.get(name):
                self.forget(name)

    @rule()
    def sweep_nothing(self):
        if isinstance(self.store, DirectoryStore):
            self.store.sweep(time.time())

    def end(self, name):
        self.leaders.pop(name).close()
        self.forget(name)

    def forget(self, name):
        self.parts.pop(name, None)
        self.notes.pop(name, None)

    @invariant()
    def both_say_the_same(self):
        if not hasattr(self, "store"):
            return
        assert keys(self.store, "") == sorted(self.objects)
        for key, data in self.objects.items():
            assert content(self.store, key) == data
        for name in ("f", "g"):
            follower = self.store.open_partial(name)
            assert follower.read(0, 10**6) == self.parts.get(name, b"")
            assert follower.state() == self.notes.get(name)
            follower.close()
        for blob, data in self.open:
            assert blob.read(0, 10**6) == data

    def teardown(self):
        for blob, _ in self.open:
            blob.close()
        for flight in self.leaders.values():
            flight.close()


class DirectoryMachine(StoreMachine):
    """The same on a disk."""

    def make(self):
        self.place = tempfile.TemporaryDirectory()
        return DirectoryStore(Path(self.place.name) / "s", cap=10**9)

    def teardown(self):
        super().teardown()
        if hasattr(self, "store"):
            self.store.close()
            self.place.cleanup()


TestMemoryStateful = pytest.mark.filterwarnings("error")(StoreMachine.TestCase)
TestMemoryStateful.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestDirectoryStateful = DirectoryMachine.TestCase
TestDirectoryStateful.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
