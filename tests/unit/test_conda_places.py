"""Where conda, mamba, rattler and pixi keep things, and why.

Tables by platform, and the words that people read.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from conda_lab import Lab
from entrepot.ports.tool import Surroundings
from entrepot.tools.conda import rattler_dirs
from entrepot.tools.conda.pkgs_dirs import resolve_mamba
from entrepot.tools.conda.places import conda_places, first_writable, judge
from entrepot.tools.conda.roots import conda_roots, mamba_roots, usual_folders
from entrepot.tools.conda.tool import conda, mamba, rattler

ROOT = sys.platform != "win32" and os.geteuid() == 0


@pytest.fixture
def lab(tmp_path) -> Lab:
    return Lab(tmp_path)


def around(home: Path, **environ: str) -> Surroundings:
    return Surroundings({"PATH": "", **environ}, home, home)


def make_root(path: Path) -> Path:
    for folder in ("bin", "conda-meta"):
        (path / folder).mkdir(parents=True)
    (path / "bin/conda").touch()
    return path


@pytest.mark.parametrize(
    "name", ["miniconda3", "anaconda3", "miniforge3", "mambaforge", "opt/miniconda3"]
)
def test_a_conda_in_a_usual_folder_is_found_without_running_it(tmp_path, name):
    root = make_root(tmp_path / name)
    assert [found.path for found in conda_roots(around(tmp_path))] == [root]


def test_the_conda_in_use_comes_first(tmp_path):
    usual, active, on_path = (
        make_root(tmp_path / name) for name in ("miniconda3", "active", "there")
    )
    found = conda_roots(
        around(tmp_path, CONDA_EXE=str(active / "bin/conda"), PATH=f"/none:{on_path}/bin")
    )
    assert [root.path for root in found] == [active, on_path, usual]


def test_a_root_anywhere_is_found_by_what_conda_init_wrote_for_the_shell(tmp_path):
    root = make_root(tmp_path / "data/forge")
    (tmp_path / ".bashrc").write_text(f"""# >>> conda initialize >>>
__conda_setup="$('{root}/bin/conda' 'shell.bash' 'hook' 2> /dev/null)"
if [ $? -eq 0 ]; then
    eval "$__conda_setup"
else
    export PATH="{root}/bin:$PATH"
fi
# <<< conda initialize <<<
""")
    assert [(found.path, found.why) for found in conda_roots(around(tmp_path))] == [
        (root, "~/.bashrc")
    ]


def test_a_root_is_found_through_an_environment_of_its(tmp_path):
    root = make_root(tmp_path / "far/away")
    (tmp_path / ".conda").mkdir()
    (tmp_path / ".conda/environments.txt").write_text(f"{root}/envs/work\n/gone\n")
    assert [found.path for found in conda_roots(around(tmp_path))] == [root]


@pytest.mark.parametrize(
    ("platform", "folder"),
    [
        ("linux", "/opt/conda"),
        ("linux", "/home/me/miniforge3"),
        ("darwin", "/opt/homebrew/Caskroom/miniconda/base"),
        ("darwin", "/Users/me/opt/anaconda3"),
        ("win32", "C:\\ProgramData\\miniconda3"),
        ("win32", "C:\\Users\\me\\AppData\\Local\\miniforge3"),
        ("win32", "C:\\Users\\me\\anaconda3"),
    ],
)
def test_the_usual_folders_of_each_platform(platform, folder):
    home = {"win32": "C:\\Users\\me", "darwin": "/Users/me"}.get(platform, "/home/me")
    assert folder in usual_folders(Surroundings({}, Path(home), Path("/"), platform=platform))  # type: ignore[arg-type]


def test_micromamba_has_a_root_of_its_own(tmp_path):
    (tmp_path / "micromamba/pkgs").mkdir(parents=True)
    (tmp_path / "micromamba/pkgs/urls.txt").touch()
    assert [root.path for root in mamba_roots(around(tmp_path))] == [tmp_path / "micromamba"]
    assert conda_roots(around(tmp_path)) == []
    named = around(tmp_path, MAMBA_ROOT_PREFIX=str(tmp_path / "mine"))
    assert [root.path for root in mamba_roots(named)] == [
        tmp_path / "mine",
        tmp_path / "micromamba",
    ]
    assert next(place.path for place in mamba().places(named)) == tmp_path / "mine/pkgs"


def test_without_any_sign_of_a_tool_nothing_is_said(tmp_path):
    for tool in (conda(), mamba(), rattler()):
        assert list(tool.places(around(tmp_path))) == []


def test_the_defaults_in_order_with_the_first_writable_one(lab):
    first, second = conda_places(lab.around)
    assert (first.path, first.label, first.exists) == (lab.cache, "new packages go here", True)
    assert (second.path, second.label, second.exists) == (
        lab.home / ".conda/pkgs",
        "searched second",
        False,
    )
    assert [layer.wins for layer in first.layers] == [True]


def test_defaults_that_vanished_and_still_hold_something_are_orphaned(lab):
    lab.package("demo")
    (lab.home / ".condarc").write_text("channels: [x]\npkgs_dirs:\n  - /nowhere/new\n")
    new, old = conda_places(lab.around)
    assert str(new.path) == "/nowhere/new"
    assert (new.layers[0].source, new.layers[0].wins) == (f"{lab.home / '.condarc'}:3", True)
    assert (old.path, old.label, old.usable) == (lab.cache, "orphaned", False)
    assert any(str(lab.cache) in note for note in new.notes)
    assert new.sources == ("x",)


def test_a_final_marker_shows_what_it_cuts_off(lab):
    (lab.root / ".condarc").write_text("pkgs_dirs:  #!final\n  - /s\n")
    (lab.home / ".condarc").write_text("pkgs_dirs: [/u]\n")
    (place,) = conda_places(around(lab.home, CONDA_PKGS_DIRS="/v"))
    assert place.layers[0].note == "#!final"
    assert [layer.value for layer in place.layers if "cut off" in layer.note] == ["/v", "/u"]
    assert any("has no effect" in note for note in place.notes)


@pytest.mark.parametrize(
    ("environ", "condarc", "words"),
    [
        ({"CONDA_PKGS_DIRS": "/a:/b"}, "", "comma"),
        ({"CONDA_PKGS_DIRS": "/a"}, "pkgs_dirs: [/b]\n", "does not replace"),
        ({}, "pkgs_dirs: [mine]\n", "relative"),
        ({}, "pkgs_dirs: ['']\n", "empty entry"),
        ({}, "pkgs_dirs: [$NOBODY/x]\n", "not set"),
        ({}, "pkgs_dirs: /a\n", "a string"),
        (
            {},
            "pkgs_dirs:\n  - /a  #!bottom\n  # note\n  - /b\n",
            ".condarc:2: #!bottom has no effect",
        ),
        ({}, "pkgs_dirs:  #!final\n  # note\n  - /b\n", ".condarc:1: #!final has no effect"),
        ({}, "pkgs_dirs:\n  - /a:/b\n", "colon in its name"),
        ({}, "pkgs_dirs: [/a\nx: 1\n", ":2"),
        ({}, "pkgs_dirs:\n\t- /a\n", ":2"),
    ],
)
def test_traps_are_told(lab, environ, condarc, words):
    (lab.home / ".condarc").write_text(condarc)
    notes = [note for place in conda_places(around(lab.home, **environ)) for note in place.notes]
    assert any(words in note for note in notes), notes


def test_secrets_of_channels_are_masked(lab):
    (lab.home / ".condarc").write_text(
        "channels:\n  - https://me:hunter@channel.test/t/tk-1234/c\n"
    )
    assert "hunter" not in str(conda_places(lab.around))
    assert "tk-1234" not in str(conda_places(lab.around))


def test_packages_without_urls_txt_are_a_trap(lab):
    lab.package("demo")
    (lab.cache / "urls.txt").unlink()
    place = conda_places(lab.around)[0]
    assert not place.usable
    assert place.why_not.endswith(f"cure: touch {lab.cache}/urls.txt")


@pytest.mark.skipif(ROOT, reason="root may write anywhere")
def test_a_cache_whose_urls_txt_is_read_only_is_not_the_first_writable(lab):
    (lab.cache / "urls.txt").chmod(0o444)
    assert not judge(lab.cache).writable
    assert first_writable([lab.cache, lab.home / "new"]) == lab.home / "new"


def test_a_file_in_the_place_of_a_cache_is_no_cache(tmp_path):
    (tmp_path / "file").touch()
    assert not judge(tmp_path / "file").writable
    assert judge(tmp_path / "new/deep").writable


# -- mamba -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "environ", "expected"),
    [
        ({}, {}, ["{home}/micromamba/pkgs", "{home}/.mamba/pkgs"]),
        ({".mambarc": "pkgs_dirs: [/m]\n"}, {}, ["/m"]),
        ({".condarc": "pkgs_dirs: [/c]\n", ".mambarc": "pkgs_dirs: [/m]\n"}, {}, ["/m", "/c"]),
        (
            {".condarc": "pkgs_dirs:  #!final\n  - /c\n", ".mambarc": "pkgs_dirs: [/m]\n"},
            {},
            ["/m", "/c"],
        ),
        (
            {".config/mamba/mambarc": "pkgs_dirs: [/x]\n"},
            {"CONDA_PKGS_DIRS": "/v,/x"},
            ["/v", "/x"],
        ),
        (
            {"rc.yml": "pkgs_dirs: [/r]\n"},
            {"MAMBARC": "{home}/rc.yml", "CONDARC": "{home}/no.yml"},
            ["/r"],
        ),
        ({}, {"MAMBA_PKGS_DIRS": "/no"}, ["{home}/micromamba/pkgs", "{home}/.mamba/pkgs"]),
    ],
)
def test_mambas_list_of_caches(tmp_path, files, environ, expected):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    given = {name: value.replace("{home}", str(tmp_path)) for name, value in environ.items()}
    found = resolve_mamba(around(tmp_path, **given), f"{tmp_path}/micromamba")
    assert [cache.path for cache in found.caches] == [
        path.replace("{home}", str(tmp_path)) for path in expected
    ]


def test_the_nested_folders_are_mambas_and_the_flat_part_is_condas(lab):
    flat = lab.package("demo")
    leaf = lab.cache / "https/channel.test/c/noarch"
    leaf.mkdir(parents=True)
    other = lab.package("other")
    for path in (other, lab.cache / "other-1.0-h0_0.conda"):
        path.rename(leaf / path.name)
    (leaf / "urls.txt").touch()
    mine = [e.key for e in lab.entries()]
    assert flat.name in mine
    assert not [key for key in mine if key.startswith("https")]
    tool = mamba(now=lab.tool()._now)
    (place,) = [place for place in tool.places(lab.around) if place.path == lab.cache]
    found = {e.key: e for e in tool.scan(place, lab.around)}
    assert f"https/channel.test/c/noarch/{other.name}" in found
    assert not [key for key in found if "demo" in key]
    assert tool.remove([found[f"https/channel.test/c/noarch/{other.name}"]], lab.around).entries
    assert not (leaf / other.name).exists()


# -- rattler and pixi ------------------------------------------------------------------------------

HOME = "/home/me"


@pytest.mark.parametrize(
    ("platform", "environ", "expected"),
    [
        ("linux", {}, "/home/me/.cache/rattler/cache"),
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/rattler/cache"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/rattler/cache"),
        ("linux", {"RATTLER_CACHE_DIR": "/r"}, "/r"),
        ("linux", {"RATTLER_CACHE_DIR": "/r", "PIXI_CACHE_DIR": "/p"}, "/p"),
        ("darwin", {}, "/home/me/Library/Caches/rattler/cache"),
        ("win32", {"LOCALAPPDATA": "C:\\L"}, "C:\\L\\rattler\\cache"),
    ],
)
def test_the_root_that_pixi_uses(platform, environ, expected):
    found = rattler_dirs.folders(Surroundings(environ, Path(HOME), Path("/"), platform=platform))[0]
    assert str(found.path) == expected
    assert [layer.wins for layer in found.layers] == [True, *[False] * (len(found.layers) - 1)]


def test_pixis_own_folder_counts_once_it_exists(tmp_path):
    assert rattler_dirs.folders(around(tmp_path))[0].path == tmp_path / ".cache/rattler/cache"
    (tmp_path / ".cache/pixi").mkdir(parents=True)
    found = rattler_dirs.folders(around(tmp_path))
    assert [(each.user, each.path) for each in found] == [
        ("pixi", tmp_path / ".cache/pixi"),
        ("rattler", tmp_path / ".cache/rattler/cache"),
    ]


def test_the_cache_table_of_the_configuration(tmp_path):
    config = tmp_path / ".pixi/config.toml"
    config.parent.mkdir()
    config.write_text('[cache]\nroot = "~/mine"\nconda-packages = "/pkgs"\n')
    found = {
        each.part: each for each in rattler_dirs.folders(around(tmp_path)) if each.user == "pixi"
    }
    assert found["root"].path == tmp_path / "mine"
    assert found["root"].layers[0].source == f"{config}:2"
    assert str(found["conda-packages"].path) == "/pkgs"
    stronger = rattler_dirs.folders(
        around(tmp_path, PIXI_CACHE_CONDA_PACKAGES_DIR="/v", PIXI_CACHE_DIR="/p")
    )
    assert [str(each.path) for each in stronger if each.user == "pixi"] == ["/p", "/v"]


@pytest.mark.parametrize(
    ("platform", "environ", "expected"),
    [
        ("linux", {}, ["/etc/pixi", "/home/me/.config/pixi", "/home/me/.pixi", "/p/.pixi"]),
        (
            "linux",
            {"XDG_CONFIG_HOME": "/x", "PIXI_HOME": "/ph"},
            ["/etc/pixi", "/home/me/.config/pixi", "/x/pixi", "/home/me/.pixi", "/ph", "/p/.pixi"],
        ),
        (
            "darwin",
            {},
            [
                "/etc/pixi",
                "/home/me/Library/Application Support/pixi",
                "/home/me/.pixi",
                "/p/.pixi",
            ],
        ),
    ],
)
def test_pixis_configuration_files_weakest_first(platform, environ, expected):
    here = Surroundings(environ, Path(HOME), Path("/p"), platform=platform)  # type: ignore[arg-type]
    found = [str(path.parent) for path in rattler_dirs.configuration_files(here)]
    assert [folder for folder in found if folder != "/.pixi"] == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"[cache\n", "cannot read it"),
        (b"\xff", "cannot read it"),
        (b"[cache]\nroot = 5\n", ":2: root is no text"),
    ],
)
def test_a_configuration_that_pixi_cannot_use_is_named(tmp_path, text, words):
    (tmp_path / ".pixi").mkdir()
    (tmp_path / ".pixi/config.toml").write_bytes(text)
    first = rattler().places(around(tmp_path, PIXI_CACHE_DIR="/p"))[0]
    assert any(words in note for note in first.notes), first.notes


def test_what_is_unknown_in_pixis_cache_is_measured_and_stays(tmp_path):
    (tmp_path / "cache/uv-cache").mkdir(parents=True)
    (tmp_path / "cache/uv-cache/file").write_text("x" * 100)
    here = around(tmp_path, PIXI_CACHE_DIR=str(tmp_path / "cache"))
    tool = rattler()
    place = tool.places(here)[0]
    (entry,) = tool.scan(place, here)
    assert (entry.size, bool(entry.blocked)) == (100, True)
    assert tool.remove([entry], here, force=True).kept
    assert any("second uv cache" in note for note in place.notes)
