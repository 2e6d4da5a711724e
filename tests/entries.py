"""Entries and a tool made of them, for tests of the verbs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from entrepot.ports.tool import (
    Block,
    BlockedBy,
    Change,
    Entry,
    Finding,
    Kind,
    Layer,
    Place,
    Removed,
    Settings,
    Tool,
    not_permitted,
)

NOW = 1_800_000_000.0
DAY = 86_400.0


def entry(project="demo", version="1.0", *, days=0.0, **fields) -> Entry:
    """A wheel of 10 kB in pip's cache unless the fields say otherwise.

    ``days`` since its last use.
    """
    filename = fields.pop(
        "filename", f"{project}-{version}-py3-none-any.whl" if project and version else None
    )
    defaults = {
        "tool": "pip",
        "place": Path("/c/pip"),
        "key": f"{fields.get('tool', 'pip')}/{filename}/{fields.get('kind', Kind.WHEEL)}",
        "kind": Kind.WHEEL,
        "size": 10_000,
        "disk": 12_288,
        "freeable": 12_288,
        "files": 2,
        "used": None if days is None else NOW - days * DAY,
    }
    if text := fields.pop("blocked", ""):
        fields["block"] = Block(fields.pop("by", BlockedBy.BEING_WRITTEN), text)
    return Entry(
        **{**defaults, "project": project, "version": version, "filename": filename, **fields}
    )


class FakeTool(Tool):
    """A tool that keeps its entries in a list and does what it is asked."""

    def __init__(
        self,
        name="pip",
        entries=(),
        *,
        findings=(),
        kept=(),
        path="/c/pip",
        exists=True,
        settings=None,
        trouble=None,
    ):
        self.name = name
        self.entries = list(entries)
        self.findings = list(findings)
        self.kept = dict(kept)
        self.is_permitted = True
        self.path = Path(path)
        self.exists = exists
        self.own_settings = settings
        self.trouble = trouble
        self.repaired = False

    def places(self, around):
        layer = Layer("environment", "PIP_CACHE_DIR", str(self.path), wins=True)
        low = Layer("default", "default", str(around.home / ".cache/pip"))
        return [
            Place(
                self.name,
                self.path,
                (layer, low),
                exists=self.exists,
                notes=("a trap",),
                sources=("https://index.test/simple",),
            )
        ]

    def scan(self, place, around, *, progress=None) -> Iterator[Entry]:
        if self.trouble:
            raise self.trouble
        yield from self.entries

    def remove(self, entries, around, *, force=False, progress=None) -> Removed:
        gone = [e for e in entries if e.key not in self.kept]
        self.entries = [e for e in self.entries if e not in gone]
        kept = tuple(
            (e, self.kept[e.key]) if self.is_permitted else not_permitted(e, self.kept[e.key])
            for e in entries
            if e.key in self.kept
        )
        return Removed(tuple(gone), sum(e.freeable for e in gone), sum(e.files for e in gone), kept)

    def verify(
        self, place, around, *, repair=False, full=False, progress=None
    ) -> Iterator[Finding]:
        if self.trouble:
            raise self.trouble
        self.repaired = repair
        yield from (replace(f, repaired="removed") if repair else f for f in self.findings)

    def settings(self, around):
        return self.own_settings


class FakeSettings(Settings):
    """Another tool's settings, in a dict."""

    def __init__(self):
        self.values = {"global.cache-dir": "/c"}

    def items(self):
        return [(key, value, "/etc/pip.conf:3") for key, value in self.values.items()]

    def get(self, key):
        return self.values.get(key)

    def set(self, key, value):
        before = self.values.get(key)
        self.values[key] = value
        return Change(
            Path("/etc/pip.conf"), key, before, value, f"pip config set {key} {value}", value
        )

    def unset(self, key):
        return Change(
            Path("/etc/pip.conf"), key, self.values.pop(key, None), None, f"pip config unset {key}"
        )

    def file(self):
        return Path("/etc/pip.conf")

    def export(self, key, value):
        return "PIP_X", Change(None, key, None, value, "")
