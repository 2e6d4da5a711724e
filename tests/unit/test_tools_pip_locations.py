"""Where pip looks, by operating system and version.

What real pips (Linux) and their libraries (the others) answer.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from entrepot.ports.tool import Surroundings
from entrepot.tools.pip.interpreters import Pip, installed_version, parse_release, pip_of, pips
from entrepot.tools.pip.locations import default_cache, global_files, user_files
from entrepot.tools.pip.places import ownership_problem, place_of, places, resolve, sources
from entrepot.tools.pip.settings import PipSettings, check_value

OLD, MIDDLE, MAC_XDG, NEW = (20, 3, 4), (24, 3, 1), (26, 2), (26, 3)
SUPPORT = "/Users/u/Library/Application Support/pip"
WINDOWS = {
    "LOCALAPPDATA": r"C:\Users\u\AppData\Local",
    "APPDATA": r"C:\Users\u\AppData\Roaming",
    "USERPROFILE": r"C:\Users\u",
}


def around(platform="linux", **environ) -> Surroundings:
    home = {"win32": r"C:\Users\u", "darwin": "/Users/u", "linux": "/home/u"}[platform]
    return Surroundings(environ, PurePosixPath(home), PurePosixPath("/work"), platform, 1000)


@pytest.mark.parametrize(
    ("platform", "version", "environ", "expected"),
    [
        ("linux", NEW, {}, "/home/u/.cache/pip"),
        ("linux", NEW, {"HOME": "/h"}, "/h/.cache/pip"),
        ("linux", NEW, {"HOME": ""}, "/home/u/.cache/pip"),
        ("linux", MIDDLE, {"HOME": ""}, "/.cache/pip"),
        ("linux", NEW, {"XDG_CACHE_HOME": "/x"}, "/x/pip"),
        ("linux", NEW, {"XDG_CACHE_HOME": "x"}, "/home/u/.cache/pip"),
        ("linux", MIDDLE, {"XDG_CACHE_HOME": "x"}, "x/pip"),
        ("linux", MIDDLE, {"XDG_CACHE_HOME": " "}, "/home/u/.cache/pip"),
        ("linux", OLD, {"XDG_CACHE_HOME": ""}, "pip"),
        ("darwin", MIDDLE, {"XDG_CACHE_HOME": "/x"}, "/Users/u/Library/Caches/pip"),
        ("darwin", MAC_XDG, {"XDG_CACHE_HOME": "/x"}, "/x/pip"),
        ("darwin", NEW, {"XDG_CACHE_HOME": "x"}, "/Users/u/Library/Caches/pip"),
        ("darwin", NEW, {}, "/Users/u/Library/Caches/pip"),
        ("win32", MIDDLE, WINDOWS, r"C:\Users\u\AppData\Local\pip\Cache"),
        ("win32", NEW, {"USERPROFILE": r"D:\u"}, r"D:\u\AppData\Local\pip\Cache"),
        ("win32", NEW, {**WINDOWS, "WIN_PD_OVERRIDE_LOCAL_APPDATA": r"E:\c"}, r"E:\c\pip\Cache"),
        (
            "win32",
            MIDDLE,
            {**WINDOWS, "WIN_PD_OVERRIDE_LOCAL_APPDATA": r"E:\c"},
            r"C:\Users\u\AppData\Local\pip\Cache",
        ),
    ],
)
def test_the_default_cache(platform, version, environ, expected):
    assert default_cache(around(platform, **environ), version)[0] == expected


@pytest.mark.parametrize(
    ("platform", "version", "environ", "expected"),
    [
        ("linux", NEW, {}, ["/etc/xdg/pip/pip.conf", "/etc/pip.conf"]),
        (
            "linux",
            NEW,
            {"XDG_CONFIG_DIRS": "/a:b:/c"},
            ["/a/pip/pip.conf", "/c/pip/pip.conf", "/etc/pip.conf"],
        ),
        (
            "linux",
            MIDDLE,
            {"XDG_CONFIG_DIRS": "/a:b"},
            ["/a/pip/pip.conf", "b/pip/pip.conf", "/etc/pip.conf"],
        ),
        ("linux", OLD, {"XDG_CONFIG_DIRS": "~/a/:"}, ["/home/u/a/pip/pip.conf", "/etc/pip.conf"]),
        ("darwin", NEW, {}, ["/Library/Application Support/pip/pip.conf"]),
        ("darwin", NEW, {"XDG_DATA_DIRS": "/d"}, ["/d/pip/pip.conf"]),
        ("darwin", MIDDLE, {"XDG_DATA_DIRS": "/d"}, ["/Library/Application Support/pip/pip.conf"]),
        ("win32", NEW, {}, [r"C:\ProgramData\pip\pip.ini"]),
    ],
)
def test_the_global_files(platform, version, environ, expected):
    assert global_files(around(platform, **environ), version) == expected


@pytest.mark.parametrize(
    ("platform", "version", "environ", "exists", "expected"),
    [
        ("linux", NEW, {}, [], ["/home/u/.pip/pip.conf", "/home/u/.config/pip/pip.conf"]),
        ("linux", NEW, {"XDG_CONFIG_HOME": "x"}, [], ["/home/u/.pip/pip.conf", "/home/u/.config/pip/pip.conf"]),
        ("linux", MIDDLE, {"XDG_CONFIG_HOME": "x"}, [], ["/home/u/.pip/pip.conf", "x/pip/pip.conf"]),
        ("darwin", NEW, {}, [], ["/Users/u/.pip/pip.conf", "/Users/u/.config/pip/pip.conf"]),
        ("darwin", NEW, {}, [SUPPORT], ["/Users/u/.pip/pip.conf", f"{SUPPORT}/pip.conf"]),
        ("win32", NEW, WINDOWS, [], [r"C:\Users\u\pip\pip.ini", r"C:\Users\u\AppData\Roaming\pip\pip.ini"]),
    ],
)  # fmt: skip
def test_the_users_files(platform, version, environ, exists, expected):
    assert user_files(around(platform, **environ), version, exists=frozenset(exists)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("26.3", (26, 3)), ("24.1b2", (24, 1)), ("20.3.4", (20, 3, 4)), ("?", (99,))],
)
def test_a_release_is_its_leading_numbers(text, expected):
    assert parse_release(text) == expected


def world(tmp_path, **environ) -> Surroundings:
    return Surroundings(
        {"HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path / "xdg"), "PATH": "", **environ},
        tmp_path,
        tmp_path,
        "linux",
        -1,
    )


def pip(tmp_path) -> Pip:
    return Pip(NEW, "26.3", tmp_path / "venv/bin/python", tmp_path / "venv")


def test_the_version_is_read_without_running_anything(tmp_path):
    site = tmp_path / "venv/lib/python3.11/site-packages"
    (site / "pip").mkdir(parents=True)
    (site / "pip/__init__.py").write_text('__version__ = "23.2.1"\n')
    (site / "pip-20.0.dist-info").mkdir()
    (tmp_path / "venv/pyvenv.cfg").write_text("home = /usr/bin\n")
    python = tmp_path / "venv/bin/python"
    python.parent.mkdir()
    python.write_bytes(b"\x7fELF")
    script = tmp_path / "venv/bin/pip"
    script.write_text(f"#!{python}\n")
    found = pip_of(python, world(tmp_path))
    assert (found.text, found.prefix) == ("23.2.1", tmp_path / "venv")
    assert installed_version(tmp_path) is None
    assert pips(world(tmp_path, PATH=str(script.parent)))[0].python == python


def test_secrets_in_indexes_are_masked_and_never_shown(tmp_path):
    around = world(
        tmp_path,
        PIP_INDEX_URL="https://u:s3cret@index.test/simple",
        PIP_EXTRA_INDEX_URL="https://t0ken@more.test/a https://c.test/",
    )
    assert sources(around, pip(tmp_path)) == [
        "https://index.test/simple",
        "https://more.test/a",
        "https://c.test",
    ]


def test_a_zero_turns_the_cache_off_and_is_explained(tmp_path):
    place = place_of(world(tmp_path, PIP_NO_CACHE_DIR="0"), pip(tmp_path))
    assert place.path is None
    assert place.notes == (
        "PIP_NO_CACHE_DIR=0 turns the cache off, as every truth value does; unset it to have one",
    )
    assert [layer.wins for layer in place.layers] == [True, False]


@pytest.fixture
def left_behind(tmp_path):
    """A cache at the default place of a home, and one at another."""
    for root in (tmp_path / ".cache/pip", tmp_path / "moved"):
        (root / "http-v2/0").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("environ", "file"),
    [({}, "cache-dir = ~/moved"), ({}, "no-cache-dir = yes"), ({"PIP_NO_CACHE_DIR": "1"}, "")],
    ids=str,
)
def test_a_cache_that_a_file_or_a_switch_left_behind_is_a_place_of_its_own(
    left_behind, environ, file
):
    """`status` shows it and `clean --all` takes it; nobody else ever would."""
    path = left_behind / ".config/pip/pip.conf"
    path.parent.mkdir(parents=True)
    path.write_text(f"[global]\n{file}\n")
    used, old = places(world(left_behind, **environ))
    assert used.path in (None, left_behind / "moved")
    assert (old.path, old.label, old.exists) == (left_behind / ".cache/pip", "orphaned", True)
    assert [layer.wins for layer in old.layers] == [False, True]
    assert len(places(replace(world(left_behind, **environ), python=Path(sys.executable)))) == 1


@pytest.mark.parametrize("name", ["PIP_CACHE_DIR", "XDG_CACHE_HOME"])
def test_a_cache_that_a_variable_left_behind_is_only_told_of(left_behind, name):
    """The variable may be set in this shell alone.

    What others use is not for `clean --all` to take.
    """
    (used,) = places(world(left_behind, **{name: str(left_behind / "moved")}))
    told = f"{left_behind}/.cache/pip is not in use here and still holds a cache: `{name}= entrepot status` shows it"
    assert told in used.notes
    assert [place.label for place in places(world(left_behind, **{name: ""}))] == [used.label]


def test_an_empty_cache_at_a_default_place_is_no_orphan(left_behind):
    (left_behind / ".cache/pip/http-v2/0").rmdir()
    assert len(places(world(left_behind, PIP_NO_CACHE_DIR="1"))) == 1


def test_exactly_one_layer_wins_and_the_line_is_named(tmp_path):
    path = tmp_path / ".config/pip/pip.conf"
    path.parent.mkdir(parents=True)
    path.write_text("[global]\n\n# here\ncache-dir = ~/c\n")
    answer = resolve(world(tmp_path), pip(tmp_path))
    assert answer.path == str(tmp_path / "c")
    assert [(layer.source, layer.wins) for layer in answer.layers] == [
        (f"{path}:4", True),
        ("default", False),
    ]


def test_roots_own_rule_and_that_of_others(tmp_path):
    stat = tmp_path.stat()
    as_root = Surroundings({}, tmp_path, tmp_path, "linux", 0)
    assert bool(ownership_problem(tmp_path / "new/deep", as_root)) == (stat.st_uid != 0)
    stranger = Surroundings({}, tmp_path, tmp_path, "linux", stat.st_uid + 4242)
    tmp_path.chmod(0o700)
    assert "may not write to it" in ownership_problem(tmp_path / "new", stranger)
    tmp_path.chmod(0o777)
    assert ownership_problem(tmp_path / "new", stranger) == ""
    assert ownership_problem(tmp_path, Surroundings({}, tmp_path, tmp_path, "win32", -1)) == ""


def test_settings_keep_mode_link_and_comments(tmp_path):
    real = tmp_path / "dotfiles/pip.conf"
    real.parent.mkdir()
    real.write_text("# mine\n[global]\ntimeout = 3\n")
    real.chmod(0o640)
    link = tmp_path / ".config/pip/pip.conf"
    link.parent.mkdir(parents=True)
    link.symlink_to(real)
    settings = PipSettings(world(tmp_path), pip(tmp_path))
    change = settings.set("cache-dir", str(tmp_path / "c d"))
    assert (change.before, change.after, change.key) == (
        None,
        str(tmp_path / "c d"),
        "global.cache-dir",
    )
    assert change.native == f"pip config --user set global.cache-dir '{tmp_path}/c d'"
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert real.read_text() == f"# mine\n[global]\ntimeout = 3\ncache-dir = {tmp_path}/c d\n"
    assert settings.get("global.cache-dir") == str(tmp_path / "c d")
    assert settings.unset("cache-dir").before == str(tmp_path / "c d")
    assert real.read_text() == "# mine\n[global]\ntimeout = 3\n"
    assert sorted(p.name for p in real.parent.iterdir()) == ["pip.conf"]


def test_a_value_that_would_stop_pip_is_refused(tmp_path):
    from entrepot.errors import ConfigError

    for key, value in {
        "global.no-cache-dir": "maybe",
        "global.timeout": "soon",
        "global.retries": "many",
        "install.progress-bar": "x",
    }.items():
        with pytest.raises(ConfigError):
            check_value(key, value)
        with pytest.raises(ConfigError):
            PipSettings(world(tmp_path), pip(tmp_path)).set(key, value)
    assert not (tmp_path / ".config").exists()
    check_value("global.no-cache-dir", "off")
    check_value("global.timeout", "2.5")


def test_a_broken_file_is_reported_with_its_line_and_the_cure(tmp_path):
    path = tmp_path / ".config/pip/pip.conf"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"[global]\r\ntimeout = 3\r\n[global]\r\nretries = 1\r\n")
    settings = PipSettings(world(tmp_path), pip(tmp_path))
    assert "line 3" in settings.problems()[0][1]
    why_not = place_of(world(tmp_path), pip(tmp_path)).why_not
    assert why_not.startswith(f"pip stops with an error: {path}: line 3")
    assert why_not.endswith("join the two; to correct it: entrepot config --tool pip edit")


def test_the_null_device_means_no_file_to_write(tmp_path):
    from entrepot.errors import ConfigError

    with pytest.raises(ConfigError):
        PipSettings(world(tmp_path, PIP_CONFIG_FILE="/dev/null"), pip(tmp_path)).set("timeout", "3")


def test_paths_given_are_real_paths(tmp_path):
    assert isinstance(place_of(world(tmp_path), pip(tmp_path)).path, Path)
