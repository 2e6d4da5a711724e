"""The architecture page names every room of the source, and no file that is not there."""

import re
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src/entrepot"
PAGE = Path(__file__).parents[1] / "docs/explanation/architecture.md"


def named(text):
    return set(re.findall(r"`((?:[a-z_]+/)*[a-z_]+(?:\.py|/))`", text))


def test_every_file_that_the_page_names_is_there():
    files = {name for name in named(PAGE.read_text("utf-8")) if name.endswith(".py")}
    assert {"eviction.py", "serving/stale_if_error.py"} <= files
    missing = {
        name
        for name in files
        if not (SOURCE / name).is_file() and not Path(PAGE.parents[2], name).is_file()
    }
    assert missing == set()


def test_every_room_is_named():
    rooms = {f"{path.parent.name}/" for path in SOURCE.glob("*/__init__.py")}
    assert rooms - named(PAGE.read_text("utf-8")) == set()
