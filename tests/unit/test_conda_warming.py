"""What explicit lists, locks and environment files ask for, the words that solve, and what solvers answer."""

import json
from pathlib import Path

import pytest

from entrepot.errors import UsageError
from entrepot.lockfiles import read_locked
from entrepot.ports.tool import Surroundings
from entrepot.tools.conda.warming import (
    Environment,
    Solver,
    environment,
    explicit_items,
    locked_items,
    reason,
    solver,
    sort_of,
    this_platform,
)

A, B, M = "a" * 64, "b" * 64, "d" * 32
CONDA_LOCK = f"""version: 1
metadata:
  platforms: [linux-64, osx-arm64]
package:
- name: demo
  version: '1.0'
  manager: conda
  platform: linux-64
  url: https://channel.test/linux-64/demo-1.0-0.conda
  hash: {{md5: {M}}}
- name: all
  version: '1'
  manager: conda
  platform: linux-64
  url: https://channel.test/noarch/all-1-0.conda
  hash:
    sha256: {A}
- name: all
  manager: conda
  platform: osx-arm64
  url: https://channel.test/noarch/all-1-0.conda
  hash:
    sha256: {A}
- name: mac
  manager: conda
  platform: osx-arm64
  url: https://channel.test/noarch/mac-1-0.conda
  hash:
    sha256: {B}
- name: Foo_Bar
  manager: pip
  platform: linux-64
  url: https://files.test/foo_bar-1.0-py3-none-any.whl
  hash:
    sha256: {B}
"""
PIXI_LOCK = f"""version: 7
platforms:
- name: linux-64
environments:
  default:
    channels:
    - url: https://channel.test/
    packages:
      linux-64:
      - conda: https://channel.test/linux-64/demo-1.0-0.conda
      - pypi: https://files.test/x-1.0-py3-none-any.whl
      osx-arm64:
      - conda: https://channel.test/noarch/mac-1-0.conda
  other:
    packages:
      osx-arm64:
      - pypi: https://files.test/x-1.0-py3-none-any.whl
packages:
- conda: https://channel.test/linux-64/demo-1.0-0.conda
  sha256: {A}
- conda: https://channel.test/noarch/mac-1-0.conda
  sha256: {B}
- pypi: https://files.test/x-1.0-py3-none-any.whl
  sha256: {B}
"""


def around(**environ):
    return Surroundings(environ, Path("/home"), Path("/"))


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            CONDA_LOCK,
            {
                "demo-1.0-0.conda": {"linux-64"},
                "all-1-0.conda": {"linux-64", "osx-arm64"},
                "mac-1-0.conda": {"osx-arm64"},
                "foo_bar-1.0-py3-none-any.whl": {"linux-64"},
            },
        ),
        (
            PIXI_LOCK,
            {
                "demo-1.0-0.conda": {"linux-64"},
                "mac-1-0.conda": {"osx-arm64"},
                "x-1.0-py3-none-any.whl": {"linux-64", "osx-arm64"},
            },
        ),
    ],
    ids=["conda-lock", "pixi"],
)
def test_a_lock_says_which_platforms_need_a_file(text, expected):
    locked = read_locked(text, "some.lock")
    assert {each.link.filename: set(each.platforms) for each in locked} == expected
    assert all(each.link.digests for each in locked if each.link.filename != "demo-1.0-0.conda")


def test_what_other_platforms_need_is_marked_noarch_included(tmp_path):
    items = locked_items(write(tmp_path, "conda-lock.yml", CONDA_LOCK), ["linux-64"])
    assert {item.link.filename: item.unneeded for item in items} == {
        "demo-1.0-0.conda": "",
        "all-1-0.conda": "",
        "mac-1-0.conda": "for osx-arm64",
        "foo_bar-1.0-py3-none-any.whl": "",
    }


def test_an_explicit_list_is_taken_whole_unless_platforms_are_named(tmp_path):
    base = "https://channel.test"
    lines = [
        f"{base}/linux-64/a-1+x-0.conda#{M}",
        f"{base}/osx-64/b-1-0.conda",
        f"{base}/noarch/c-1-0.conda",
        "/tmp/d-1-0.conda",
    ]
    path = write(tmp_path, "list.txt", "@EXPLICIT\n" + "\n".join(lines) + "\n")
    assert [(item.link.filename, item.unneeded) for item in explicit_items(path, ["osx-64"])] == [
        ("a-1+x-0.conda", "for linux-64"),
        ("b-1-0.conda", ""),
        ("c-1-0.conda", ""),
    ]
    items = explicit_items(path, [])
    assert not any(item.unneeded for item in items)
    assert items[0].link.url == lines[0].partition("#")[0]
    assert [str(digest) for digest in items[0].link.digests] == [f"md5:{M}"]


@pytest.mark.parametrize(
    ("name", "text", "sort"),
    [
        ("x.txt", "# platform: linux-64\n@EXPLICIT\nhttps://x\n", "explicit"),
        ("x.txt", "\ufeff@EXPLICIT \r\nhttps://x\r\n", "explicit"),
        ("x.yml", CONDA_LOCK, "lock"),
        ("pixi.lock", "", "lock"),
        ("x", PIXI_LOCK, "lock"),
        ("x.yaml", "name: x\ndependencies:\n- python\n", "env"),
        ("x.txt", "numpy==1\n", ""),
    ],
)
def test_a_file_is_told_by_its_content(tmp_path, name, text, sort):
    assert sort_of(write(tmp_path, name, text)) == sort


@pytest.mark.parametrize(
    ("platform", "machine", "name"),
    [
        ("linux", "x86_64", "linux-64"),
        ("linux", "aarch64", "linux-aarch64"),
        ("linux", "ppc64le", "linux-ppc64le"),
        ("darwin", "x86_64", "osx-64"),
        ("darwin", "arm64", "osx-arm64"),
        ("win32", "AMD64", "win-64"),
    ],
)
def test_the_platform_has_condas_name(platform, machine, name):
    assert this_platform(Surroundings({}, Path("/"), Path("/"), platform), machine) == name
    assert this_platform(around(CONDA_SUBDIR="zos-z")) == "zos-z"


def test_an_environment_file_has_channels_specs_and_what_is_pips(tmp_path):
    text = """name: x
channels: [lab, "https://channel.test/t/$TOKEN/lab", nodefaults]
dependencies:
- python =3.12
- lab::demo>=1
- pip:
  - -r more.txt
  - ./here
  - leaf==1
  - -c https://x.test/c.txt
prefix: /elsewhere
"""
    made = environment(write(tmp_path, "environment.yml", text), around(TOKEN="secret"))
    assert made.channels == ("lab", "https://channel.test/t/secret/lab", "nodefaults")
    assert made.specs == ("python =3.12", "lab::demo>=1")
    assert made.pip == (
        f"-r {tmp_path}/more.txt",
        f"{tmp_path}/here",
        "leaf==1",
        "-c https://x.test/c.txt",
    )


WANTED = Environment(Path("/e/environment.yml"), ("lab", "nodefaults"), ("demo>=1",))


def test_conda_and_mamba_are_asked_what_they_would_install(tmp_path):
    ((program, *words),) = Solver("mamba", "/bin/mamba").commands(WANTED, "linux-64", tmp_path)
    assert program == "/bin/mamba"
    assert {"create", "--dry-run", "--json", "--yes", "--override-channels"} < set(words)
    assert words[-3:] == ["-c", "lab", "demo>=1"]
    assert "--download-only" not in words


def test_pixi_writes_a_lock_that_is_read(tmp_path):
    pixi = Solver("pixi", "/bin/pixi")
    start, lock = pixi.commands(WANTED, "linux-64", tmp_path)
    assert start[1:6] == ["init", "--import", "/e/environment.yml", "--platform", "linux-64"]
    assert lock[1] == "lock"
    (tmp_path / "project").mkdir()
    write(tmp_path / "project", "pixi.lock", PIXI_LOCK)
    links = pixi.links("", tmp_path, lambda _: {})
    assert [link.filename for link in links] == [
        "demo-1.0-0.conda",
        "mac-1-0.conda",
        "x-1.0-py3-none-any.whl",
    ]


def record(name, **more):
    return {
        "name": name,
        "version": "1",
        "build": "0",
        "url": f"https://channel.test/noarch/{name}-1-0.conda",
        **more,
    }


def test_what_a_cache_has_already_is_known_by_its_record_and_what_nobody_knows_is_an_error(
    tmp_path,
):
    told = {
        "actions": [
            {
                "FETCH": [record("a", sha256=A, md5=M, size=7)],
                "LINK": [{"dist_name": "a-1-0"}, {"dist_name": "b-1-0"}],
            }
        ]
    }
    conda = Solver("conda", "conda")
    found = conda.links(
        "warning\n" + json.dumps(told),
        tmp_path,
        lambda stem: record(stem[0]) if stem == "b-1-0" else {},
    )
    assert [(link.filename, len(link.digests), link.size) for link in found] == [
        ("a-1-0.conda", 2, 7),
        ("b-1-0.conda", 0, None),
    ]
    with pytest.raises(UsageError, match="no address is known for b-1-0"):
        conda.links(json.dumps(told), tmp_path, lambda _: {})
    for bad in (
        "",
        "[]",
        "{}",
        '{"actions": 7}',
        '{"actions": {"LINK": [{}]}}',
        '{"actions": {"LINK": [7]}}',
    ):
        with pytest.raises(UsageError, match="did not say"):
            conda.links(bad, tmp_path, lambda _: {})


def test_the_users_own_tool_solves_the_quickest_first_and_else_py_rattler(tmp_path):
    for name in ("conda", "pixi"):
        write(tmp_path, name, "").chmod(0o755)
    assert solver(around(PATH=f"/none:{tmp_path}"), has_rattler=True) == Solver(
        "conda", str(tmp_path / "conda")
    )
    assert solver(around(PATH=""), has_rattler=True).name == "py-rattler"
    with pytest.raises(UsageError, match="needs a solver"):
        solver(around(), has_rattler=False)


def test_the_reason_is_of_the_json_or_the_last_lines():
    assert reason("conda", '{"message": "no such\\npackage"}', "log") == "conda: no such package"
    assert reason("mamba", "", "x\nerror: none\n") == "mamba: x error: none"
    assert reason("pixi", "{", "") == "pixi: it said nothing"
    assert "SECRET" not in reason(
        "mamba", "", "failed: https://ana:SECRET@channel.test/t/SECRET/lab/noarch\n"
    )
