"""Conda's list of caches.

Against a table of real conda's own answers, and the parts for themselves.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conda_cases import CASES, Case, filled
from entrepot.ports.tool import ORPHANED, Surroundings
from entrepot.tools.conda.condarc import (
    Item,
    ListValue,
    read,
    search_path,
)
from entrepot.tools.conda.pkgs_dirs import default_caches, merge, resolve, variable_traps
from entrepot.tools.conda.places import conda_places
from entrepot.tools.conda.platform_paths import expand


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_list_of_caches_is_the_one_that_conda_itself_gives(case: Case, tmp_path: Path):
    words = {
        "{home}": f"{tmp_path}/home",
        "{root}": f"{tmp_path}/root",
        "{cwd}": f"{tmp_path}/home/cwd",
    }
    case.lay_out(words)
    for path in (tmp_path / "root/bin/conda", tmp_path / "root/conda-meta/history"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    environ = {
        "HOME": words["{home}"],
        "PATH": f"{tmp_path}/root/bin",
        **{name: filled(value, words) for name, value in case.environ.items()},
    }
    around = Surroundings(environ=environ, home=tmp_path / "home", cwd=tmp_path / "home/cwd")

    found = resolve(around, f"{tmp_path}/root")
    # `where` as people see it: conda's order, and a folder that is listed under two names once
    listed = sorted(
        (place for place in conda_places(around) if place.label != ORPHANED),
        key=lambda place: place.rank,
    )

    if case.expected is None:
        assert found.stops
        assert found.problems
        assert any("stops" in note for note in listed[0].notes)
        return
    expected = [filled(path, words) for path in case.expected]
    assert not found.stops
    assert [cache.path for cache in found.caches] == expected
    assert [str(place.path) for place in listed] == list(
        {os.path.realpath(path): path for path in reversed(expected)}.values()
    )[::-1]


def test_there_are_more_than_forty_cases():
    assert len(CASES) > 40


def around(platform: str = "linux", **environ: str) -> Surroundings:
    home = {"win32": "C:\\Users\\me", "darwin": "/Users/me"}.get(platform, "/home/me")
    return Surroundings(environ=environ, home=Path(home), cwd=Path("/here"), platform=platform)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("platform", "root", "environ", "expected"),
    [
        ("linux", "/opt/conda", {}, ["/opt/conda/pkgs", "/home/me/.conda/pkgs"]),
        ("linux", "", {}, ["/home/me/.conda/pkgs"]),
        ("linux", "/home/me/.conda", {}, ["/home/me/.conda/pkgs"]),
        (
            "darwin",
            "/Users/me/miniforge3",
            {},
            ["/Users/me/miniforge3/pkgs", "/Users/me/.conda/pkgs"],
        ),
        (
            "win32",
            "C:\\ProgramData\\miniconda3",
            {"LOCALAPPDATA": "C:\\Users\\me\\AppData\\Local"},
            [
                "C:\\ProgramData\\miniconda3\\pkgs",
                "C:\\Users\\me\\.conda\\pkgs",
                "C:\\Users\\me\\AppData\\Local\\conda\\conda\\pkgs",
            ],
        ),
        (
            "win32",
            "C:\\m",
            {},
            [
                "C:\\m\\pkgs",
                "C:\\Users\\me\\.conda\\pkgs",
                "C:\\Users\\me\\AppData\\Local\\conda\\conda\\pkgs",
            ],
        ),
    ],
)
def test_the_defaults_of_each_platform(platform, root, environ, expected):
    assert [cache.path for cache in default_caches(around(platform, **environ), root)] == expected


@pytest.mark.parametrize(
    ("platform", "text", "environ", "expected"),
    [
        ("linux", "~/x", {}, "/home/me/x"),
        ("linux", "~other/x", {}, "/here/~other/x"),
        ("linux", "$A/x", {"A": "/a"}, "/a/x"),
        ("linux", "${A}x", {"A": "/a"}, "/ax"),
        ("linux", "%A%/x", {"A": "/a"}, "/here/%A%/x"),
        ("linux", "", {}, "/here"),
        ("linux", "/a/../b/./c/", {}, "/b/c"),
        ("win32", "%A%\\x", {"A": "D:\\a"}, "D:\\a\\x"),
        ("win32", "$A/x", {"A": "D:\\a"}, "D:\\a\\x"),
        ("win32", "~\\x", {}, "C:\\Users\\me\\x"),
        ("win32", "D:/a/b/", {}, "D:\\a\\b"),
    ],
)
def test_an_entry_is_expanded_as_its_platform_does(platform, text, environ, expected):
    assert expand(text, around(platform, **environ)) == expected


def test_the_search_path_is_condas_weakest_first():
    assert search_path(around(XDG_CONFIG_HOME="/xdg", CONDARC="/rc.yml"), "/root", "/env") == [
        "/etc/conda/.condarc", "/etc/conda/condarc", "/etc/conda/condarc.d",
        "/var/lib/conda/.condarc", "/var/lib/conda/condarc", "/var/lib/conda/condarc.d",
        "/root/.condarc", "/root/condarc", "/root/condarc.d",
        "/xdg/conda/.condarc", "/xdg/conda/condarc", "/xdg/conda/condarc.d",
        "/home/me/.config/conda/.condarc", "/home/me/.config/conda/condarc", "/home/me/.config/conda/condarc.d",
        "/home/me/.conda/.condarc", "/home/me/.conda/condarc", "/home/me/.conda/condarc.d",
        "/home/me/.condarc",
        "/env/.condarc", "/env/condarc", "/env/condarc.d",
        "/rc.yml",
    ]  # fmt: skip


def test_on_windows_the_system_files_are_those_of_program_data():
    found = search_path(around("win32"), "C:\\root")
    assert found[:3] == [
        "C:/ProgramData/conda\\.condarc",
        "C:/ProgramData/conda\\condarc",
        "C:/ProgramData/conda\\condarc.d",
    ]
    assert not [entry for entry in found if entry.startswith("/")]


def test_a_colon_in_the_variable_is_told():
    assert variable_traps(around(CONDA_PKGS_DIRS="/a:/b"))
    assert not variable_traps(around("win32", CONDA_PKGS_DIRS="C:\\a"))
    assert not variable_traps(around(CONDA_PKGS_DIRS="/a,/b"))


def test_what_a_final_cuts_off_is_kept_apart():
    weak = ListValue("weak", (Item("/w"),), flag="final")
    merged, cut = merge([weak, ListValue("strong", (Item("/s"),))])
    assert [item.text for item, _ in merged] == ["/w"]
    assert [item.text for item, _ in cut] == ["/s"]


@pytest.mark.parametrize(
    ("text", "line", "fatal"),
    [
        ("a: b\npkgs_dirs:\n\t- /a\n", 3, False),
        ("pkgs_dirs: [/a\nchannels: [x]\n", 2, True),
        ("a: 1\na: 2\n", 2, True),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path, text, line, fatal):
    path = tmp_path / ".condarc"
    path.write_text(text)
    found = read(path)
    assert f"{path}:{line}" in found.problem
    assert found.fatal is fatal


def test_a_string_for_a_list_is_named_with_its_line(tmp_path):
    path = tmp_path / ".condarc"
    path.write_text("channels: [x]\npkgs_dirs: /a\n")
    assert f"{path}:2: pkgs_dirs is a string" in read(path).lists["pkgs_dirs"].problem
