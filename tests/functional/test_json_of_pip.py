"""`--json` of every verb over a real cache of pip.

One object, each of whose members the reference tells of.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from pip_verbs import entrepot, made

pytestmark = pytest.mark.skipif(os.name == "nt", reason="written for POSIX")
REFERENCE = Path(__file__).parents[2] / "docs/reference/json.md"
COMMON = {"schema", "command", "warnings"}
BY_VERB = {
    "status": {"caches", "disks", "quotas", "duplicates", "savings"},
    "where pip": {"places"},
    "list": {"entries", "total"},
    "list --versions": {"projects"},
    "list --duplicates": {"duplicates"},
    "verify": {"checked", "findings"},
    "clean --all -n": {
        "dry_run",
        "freed",
        "left",
        "download",
        "builds",
        "groups",
        "going",
        "staying",
    },
    "remove pure -n": {
        "dry_run",
        "freed",
        "left",
        "download",
        "builds",
        "groups",
        "going",
        "staying",
    },
    "config list": {"settings"},
    "config get timeout": {"key", "value"},
    "config set timeout 30": {"change"},
    "config unset timeout": {"change"},
    "config set timeout 30 --persist env": {"change"},
    "config --undo": {"change"},
    "remove pure -y": {"dry_run", "freed", "files", "removed", "staying"},
    "remove pure -y --ignore-missing": {"dry_run", "freed", "files", "removed", "staying"},
    "clean --all -y": {"dry_run", "freed", "files", "removed", "staying"},
    "clean -y": {"dry_run", "freed", "files", "removed", "staying"},
    "remove pure": {"dry_run", "freed", "files", "removed", "staying"},
    "list --older 5": {"error"},
}
"""In this order, on a cache with two entries that are wrong; after `remove pure -y` there is none
of it any more."""
FREE = {"groups", "litter", "extra", "savings", "warnings"}
"""Members that are not the reference's: headings, reasons, facts of one tool, counters."""


def members(value, path=""):
    """Every member's name anywhere in a document, but for what is keyed by something else than words of the reference."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from members(
                list(inner.values()) if name in FREE and isinstance(inner, dict) else inner
            )
    elif isinstance(value, list):
        for inner in value:
            yield from members(inner)


def test_every_verb_answers_with_the_members_that_are_documented(tmp_path):
    lab = made(tmp_path)
    try:
        lab.download("pure")
        lab.pip("wheel", "--no-deps", "-w", str(tmp_path / "w"), "source")
    finally:
        lab.origin.close()
    body = next(path for path in lab.place.path.rglob("*.body") if path.stat().st_size > 500)
    body.write_bytes(body.read_bytes()[:-1] + b"x")
    (lab.home / ".config/pip").mkdir(parents=True)
    (lab.home / ".config/pip/pip.conf").write_text("[global]\ntimeout = 60\n")
    said, _ = entrepot(lab.environ, *([*verb.split(), "--json"] for verb in BY_VERB))
    parts = re.split(r"^\$ --tool pip .*$", said, flags=re.MULTILINE)[1:]
    documented = set(re.findall(r"[`\"]([a-z_]+)[`\"]", REFERENCE.read_text(encoding="utf-8")))
    wrong = []
    for verb, text in zip(BY_VERB, parts, strict=True):
        document = json.loads(text[text.index("{") : text.rindex("}") + 1])
        if set(document) != COMMON | BY_VERB[verb] or (document["schema"], document["command"]) != (
            1,
            verb.split()[0],
        ):
            wrong.append(f"{verb}: {', '.join(document)}")
        wrong += [
            f"{verb}: {name} is not documented"
            for name in set(members(document)) - documented - COMMON
        ]
    assert wrong == []
