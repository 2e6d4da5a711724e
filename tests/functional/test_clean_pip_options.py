"""What each option of `clean` takes of a cache that two real pips filled, and that the newer one goes on working with the rest."""

from __future__ import annotations

import json
import os
import time

import pytest

from pip_lab import pip_python, run_pip, wheel_bytes
from pip_verbs import entrepot, made

pytestmark = pytest.mark.skipif(os.name == "nt", reason="written for POSIX")
DAY = 86_400
LATER_S = 7200
"""By so much the clock of `clean` is ahead: files get old by their ctime too, which nobody can set.
"""


def clean(lab, *options):
    """The plan by reason, and the files that are left."""
    only = str(pip_python("26.3"))
    environ = {
        **lab.environ,
        "PATH": os.path.dirname(only),
        "LAB_PYTHON": only,
        "LAB_LATER": str(LATER_S),
    }
    said, statuses = entrepot(
        environ, ["clean", "-n", "--json", *options], ["clean", "-y", *options]
    )
    assert statuses == [0, 0], said
    document = json.loads(said[said.index("{") : said.index("-> 0")])
    return {group["reason"]: group["files"] for group in document["groups"]}


def names(lab):
    return {(e.project, e.version, e.kind.value) for e in lab.scan() if e.project}


def test_each_option_takes_what_it_says_and_pip_works_with_the_rest(tmp_path):
    """One scene, step by step: filling a cache is what costs."""
    pip_python("23.2.1")
    lab = made(tmp_path)
    try:
        lab.index.date = time.time() - 400 * DAY
        lab.download("numbered")  # its page has expired long ago
        lab.index.date = None
        lab.index.add(*wheel_bytes("pure", "2.0"))
        lab.download("pure==1.0")
        lab.download("pure==2.0", "multi-tag", "dotted-name")
        run_pip(
            "23.2.1",
            "download",
            "--no-deps",
            "-d",
            str(tmp_path / "old"),
            "pure",
            environ=lab.environ,
        )
        old, new = lab.place.path / "http", lab.place.path / "http-v2"
        assert any(old.rglob("*"))
        (body,) = (
            e.paths[1] for e in lab.scan() if (e.project, e.kind.value) == ("dotted-name", "wheel")
        )
        stale, fresh = (
            body.with_name(f"{body.name}abcdefgh.tmp"),
            body.with_name(f"{body.name}ijklmnop.tmp"),
        )
        stale.touch()
        fresh.touch()
        os.utime(fresh, (time.time() + LATER_S - 60,) * 2)
        # What a pip leaves behind that was killed after the metadata and before the body
        body.unlink()

        files_of_old = sum(path.is_file() for path in old.rglob("*"))
        assert clean(lab) == {
            "superseded layout": files_of_old,
            "stale temporary": 1,
            "orphan": 1,
            "expired page": 2,
        }
        assert fresh.exists()
        assert not stale.exists()
        assert not [path for path in old.rglob("*") if path.is_file()]
        assert ("numbered", "1.5", "wheel") in names(lab)
        assert clean(lab) == {}

        assert clean(lab, "--keep-latest", "1") == {"older versions": 4}
        assert {version for project, version, _ in names(lab) if project == "pure"} == {None, "2.0"}

        for entry in lab.scan():
            if entry.project == "multi-tag":
                for path in entry.paths:
                    os.utime(path, (time.time() - 40 * DAY,) * 2)
        assert clean(lab, "--older", "41d") == {}
        assert clean(lab, "--older", "30d") == {
            "downloads unused for 30 days": 2,
            "pages unused for 30 days": 4,
        }

        for number, project in enumerate(("numbered", "pure")):
            for entry in lab.scan():
                if entry.project == project:
                    for path in entry.paths:
                        os.utime(path, (time.time() - (9 - number) * DAY,) * 2)
        left = sum(e.disk for e in lab.scan() if e.project != "numbered")
        assert set(clean(lab, "--to", str(left))) == {
            f"least recently used, to get down to {left / 1000:.0f} kB"
        }
        assert {project for project, _, _ in names(lab)} == {"pure", "dotted-name"}
        asked, _ = lab.download("pure", "numbered")
        assert not any("pure-2.0" in path for path in asked), "what was kept is used"
        assert any("numbered-1.5" in path for path in asked), "what was removed is fetched again"

        clean(lab, "--all")
        assert [path for path in new.rglob("*") if path.is_file()] == [fresh]
        lab.download("pure")
    finally:
        lab.origin.close()
