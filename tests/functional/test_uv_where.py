"""``where uv`` and ``config --tool uv`` against the real thing.

What three uvs answer to ``uv cache dir``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import clients
from entrepot.ports.tool import Surroundings
from entrepot.tools.uv import settings as known
from entrepot.tools.uv.places import places
from entrepot.tools.uv.settings import UvSettings
from uv_lab import VERSIONS

pytestmark = pytest.mark.skipif(os.name == "nt", reason="written for POSIX")

OFF = "off"
STOPS = "stops"
USER, SYSTEM = "home/.config/uv/uv.toml", "xdg/uv/uv.toml"
CASES = {
    "nothing said": ({}, {}, ()),
    "variable": ({"UV_CACHE_DIR": "/v"}, {}, ()),
    "relative variable": ({"UV_CACHE_DIR": "v/../w"}, {}, ()),
    "variable with a tilde": ({"UV_CACHE_DIR": "~/v"}, {}, ()),
    "empty variable": ({"UV_CACHE_DIR": ""}, {}, ()),
    "XDG": ({"XDG_CACHE_HOME": "/x"}, {}, ()),
    "relative XDG": ({"XDG_CACHE_HOME": "x"}, {}, ()),
    "empty XDG": ({"XDG_CACHE_HOME": ""}, {}, ()),
    "off": ({"UV_NO_CACHE": "1"}, {}, ()),
    "off, in capitals": ({"UV_NO_CACHE": "TRUE"}, {}, ()),
    "not off": ({"UV_NO_CACHE": "0"}, {}, ()),
    "off by nothing": ({"UV_NO_CACHE": ""}, {}, ()),
    "off by nonsense": ({"UV_NO_CACHE": "2"}, {}, ()),
    "off beats the variable": ({"UV_NO_CACHE": "1", "UV_CACHE_DIR": "/v"}, {}, ()),
    "option": ({"UV_CACHE_DIR": "/v"}, {}, ("--cache-dir", "/o")),
    "option with equals sign": ({}, {}, ("--cache-dir=/o",)),
    "off by option": ({"UV_CACHE_DIR": "/v"}, {}, ("--no-cache",)),
    "user's file": ({}, {USER: 'cache-dir = "/u"'}, ()),
    "user's relative": ({}, {USER: 'cache-dir = "u"'}, ()),
    "variable beats the user's file": ({"UV_CACHE_DIR": "/v"}, {USER: 'cache-dir = "/u"'}, ()),
    "project's file": ({}, {USER: 'cache-dir = "/u"', "work/uv.toml": 'cache-dir = "/p"'}, ()),
    "project's relative": ({}, {"work/uv.toml": 'cache-dir = "p"'}, ()),
    "nearest": (
        {},
        {"work/uv.toml": 'cache-dir = "/p"', "work/here/uv.toml": 'cache-dir = "/n"'},
        (),
    ),
    "nearest without the key": (
        {},
        {"work/uv.toml": 'cache-dir = "/p"', "work/here/uv.toml": "offline = false"},
        (),
    ),
    "pyproject": ({}, {"work/here/pyproject.toml": '[tool.uv]\ncache-dir = "/y"'}, ()),
    "pyproject of another tool": (
        {},
        {"work/uv.toml": 'cache-dir = "/p"', "work/here/pyproject.toml": "[tool.x]\na = 1"},
        (),
    ),
    "pyproject with an empty table": (
        {},
        {"work/uv.toml": 'cache-dir = "/p"', "work/here/pyproject.toml": "[tool.uv]"},
        (),
    ),
    "uv.toml hides the table": (
        {},
        {
            "work/here/uv.toml": "offline = false",
            "work/here/pyproject.toml": '[tool.uv]\ncache-dir = "/y"',
        },
        (),
    ),
    "broken pyproject": (
        {},
        {"work/uv.toml": 'cache-dir = "/p"', "work/here/pyproject.toml": "[tool.uv"},
        (),
    ),
    "broken uv.toml": ({}, {"work/here/uv.toml": "cache-dir = "}, ()),
    "named file": (
        {"UV_CONFIG_FILE": "named.toml"},
        {"work/here/named.toml": 'cache-dir = "/n"', USER: 'cache-dir = "/u"'},
        (),
    ),
    "named file without the key": (
        {"UV_CONFIG_FILE": "named.toml"},
        {"work/here/named.toml": "", USER: 'cache-dir = "/u"'},
        (),
    ),
    "named file that is not there": ({"UV_CONFIG_FILE": "named.toml"}, {}, ()),
    "no configuration": ({"UV_NO_CONFIG": "1"}, {USER: 'cache-dir = "/u"'}, ()),
    "no-cache in a file": ({}, {USER: "no-cache = true"}, ()),
    "no-cache in a file beats the variable": (
        {"UV_CACHE_DIR": "/v"},
        {USER: "no-cache = true"},
        (),
    ),
    "no-cache in the user's, a place in the project's": (
        {},
        {USER: "no-cache = true", "work/uv.toml": 'cache-dir = "/p"'},
        (),
    ),
    "no-cache denied nearer": (
        {},
        {USER: "no-cache = true", "work/uv.toml": 'no-cache = false\ncache-dir = "/p"'},
        (),
    ),
    "system's file": ({"XDG_CONFIG_DIRS": "{root}/xdg"}, {SYSTEM: 'cache-dir = "/s"'}, ()),
    "user's over system's": (
        {"XDG_CONFIG_DIRS": "{root}/xdg"},
        {SYSTEM: 'cache-dir = "/s"', USER: 'cache-dir = "/u"'},
        (),
    ),
    "user's and system's add up": (
        {"XDG_CONFIG_DIRS": "{root}/xdg"},
        {SYSTEM: "no-cache = true", USER: 'cache-dir = "/u"'},
        (),
    ),
    "XDG_CONFIG_HOME": (
        {"XDG_CONFIG_HOME": "{root}/conf"},
        {"conf/uv/uv.toml": 'cache-dir = "/c"', USER: 'cache-dir = "/u"'},
        (),
    ),
    "workspace": (
        {},
        {
            "work/pyproject.toml": '[project]\nname = "a"\nversion = "1"\n[tool.uv]\ncache-dir = "/w"\n'
            '[tool.uv.workspace]\nmembers = ["*"]',
            "work/here/pyproject.toml": '[project]\nname = "b"\nversion = "1"\n[tool.uv]\ncache-dir = "/m"',
        },
        (),
    ),
}


def world(case, root: Path) -> tuple[dict[str, str], Path, tuple[str, ...]]:
    variables, files, options = case
    here = root / "work" / "here"
    here.mkdir(parents=True)
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    environ = clients.clean_environment(
        root / "home", **{k: v.format(root=root) for k, v in variables.items()}
    )
    return environ, here, options


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", CASES)
def test_where_agrees_with_uv(name, version, tmp_path):
    environ, here, options = world(CASES[name], tmp_path)
    done = clients.run([*clients.uv(version), "cache", "dir", *options], environ, cwd=here)
    (place, *_) = places(
        Surroundings(environ, tmp_path / "home", here, "linux", os.geteuid()), options=options
    )
    if done.returncode:
        assert (
            "uv stops" in place.why_not
            or "cannot be read" in place.why_not
            or "is not there" in place.why_not
        )
        return
    said = Path(os.path.normpath(here / done.stdout.strip()))
    if said.name.startswith(".tmp"):
        assert place.path is None
        assert place.why_not == "caching is turned off"
    else:
        assert place.path == said
    assert [layer.wins for layer in place.layers].count(True) == 1


def test_uv_reads_what_was_set_and_comments_stay(tmp_path):
    environ, here, _ = world(
        ({}, {USER: "# mine\noffline = false # why\n\n[pip]\nstrict = true # too"}, ()), tmp_path
    )
    settings = UvSettings(Surroundings(environ, tmp_path / "home", here, "linux", os.geteuid()))
    change = settings.set("cache-dir", str(tmp_path / "new place"))
    assert change.native == ""  # uv has no command that edits uv.toml
    text = (tmp_path / USER).read_text()
    assert [word for word in ("# mine", "# why", "# too") if word not in text] == []
    done = clients.run([*clients.uv(VERSIONS[-1]), "cache", "dir"], environ, cwd=here)
    assert done.stdout.strip() == str(tmp_path / "new place")
    settings.unset("cache-dir")
    assert (
        tmp_path / USER
    ).read_text() == "# mine\noffline = false # why\n\n[pip]\nstrict = true # too\n"


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> dict[str, str]:
    """Every key that the newest uv takes in a file, at the top and in ``[pip]``, and what it says of a wrong type."""
    folder = tmp_path_factory.mktemp("keys")
    environ = clients.clean_environment(folder / "home")

    def said(text: str) -> str:
        (folder / "uv.toml").write_text(text)
        return clients.run(
            [*clients.uv(VERSIONS[-1]), "pip", "list", "--offline"], environ, cwd=folder
        ).stderr

    found = {}
    for table in ("[pip]\n", ""):
        _, _, expected = said(f"{table}nonsense = 1\n").partition(
            "unknown field `nonsense`, expected one of "
        )
        found |= {
            key: said(f'{table}{key} = "x"\n') for key in re.findall(r"`([a-z-]+)`", expected)
        }
    assert len(found) > 60
    return found


def test_every_key_that_is_known_of_uv_is_one_and_has_its_variable(keys: dict[str, str]):
    program = Path(clients.uv(VERSIONS[-1])[0]).read_bytes()
    listed = known._VARIABLES | known._SWITCHES | known._WORDS | known._CHOICES.keys()
    assert listed - keys.keys() == set(), "uv stops at these"
    assert {
        key for key in known._VARIABLES if known._variable(key).encode() not in program
    } == set()
    assert "no-build-isolation" in known._VARIABLES
    assert {key for key in known._SWITCHES if "expected a boolean" not in keys[key]} == set()
