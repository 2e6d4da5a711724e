"""What a removal gives back is known before it is done."""

import os
from itertools import combinations

import pytest

from entrepot.ports.tool import Surroundings
from entrepot.tools.pip.tool import tool

NAMES = ("0" * 56, "0" * 55 + "1", "00000f" + "0" * 50, "1" * 56)
WHEELS = "wheels/ab/cd/ef"


def filled(root):
    for name in NAMES:
        folder = root / "http-v2" / "/".join(name[:5])
        folder.mkdir(parents=True, exist_ok=True)
        for suffix in ("", ".body"):
            (folder / f"{name}{suffix}").write_bytes(b"x" * 5000)
    folder = root / WHEELS / "0123"
    folder.mkdir(parents=True)
    for name in ("a-1-py3-none-any.whl", "b-1-py3-none-any.whl", "origin.json"):
        (folder / name).write_bytes(b"{}")
    (root / WHEELS / "empty").mkdir()
    (root / "selfcheck.json").write_bytes(b"{}")


@pytest.mark.parametrize("count", [1, 4, 7])
def test_the_directories_that_go_with_their_last_files_are_known_beforehand(tmp_path, count):
    for number, chosen in enumerate(combinations(range(7), count)):
        root = tmp_path / str(number)
        filled(root)
        world = Surroundings(
            {"HOME": str(tmp_path), "PIP_CACHE_DIR": str(root), "PATH": ""},
            tmp_path,
            tmp_path,
            "linux",
            os.geteuid(),
        )
        pip = tool(tmp_path / "state")
        everything = list(pip.scan(pip.places(world)[0], world))
        assert len(everything) == 7
        going = [everything[each] for each in chosen]
        said = sum(entry.freeable for entry in going) + pip.emptied(going)
        done = pip.remove(going, world, force=True)
        assert (said, len(done.entries)) == (
            done.freed,
            sum(entry.is_removable(force=True) for entry in going),
        )
