"""Which environment is meant by a name or a path."""

import os
from pathlib import Path

import pytest

from entrepot.caches.selection import Filter, find_environment
from entrepot.errors import UsageError
from entrepot.ports.tool import Surroundings
from entrepot.tools.conda.environments import named_environments
from entries import NOW, FakeTool, entry


class Linked(FakeTool):
    """A tool that knows environments."""

    def __init__(self, *known):
        super().__init__("linked", [])
        self.known = known

    def environments(self, around):
        return self.known


def make(path: Path, mark="conda-meta/x.json") -> Path:
    (path / mark).parent.mkdir(parents=True, exist_ok=True)
    (path / mark).touch()
    return path


def find(tmp_path, text, *known, **environ):
    around = Surroundings(environ, tmp_path, tmp_path)
    return find_environment([FakeTool("pip", []), Linked(*known)], around, text)


def test_a_name_that_a_tool_knows_is_enough(tmp_path):
    lab = make(tmp_path / "envs/lab")
    found = find(tmp_path, "lab", ("lab", lab), ("other", make(tmp_path / "envs/other")))
    assert (found.path, found.spellings) == (lab, frozenset({str(lab)}))


def test_every_way_in_which_tools_write_its_path_counts(tmp_path):
    lab = make(tmp_path / "real/lab")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    spelled = tmp_path / "link/lab"
    assert find(tmp_path, "lab", ("lab", spelled), ("lab", lab)).spellings == {
        str(lab),
        str(spelled),
    }


@pytest.mark.parametrize("text", ["site", "./site", "~/site", "site/.venv", "{}/site/"])
def test_a_path_needs_nobody_to_know_it_and_a_projects_folder_will_do(tmp_path, text):
    made = make(tmp_path / "site/.venv", "pyvenv.cfg")
    assert find(tmp_path, text.format(tmp_path)).path == made


def test_a_pixi_projects_folder_is_its_default_environment(tmp_path):
    made = make(tmp_path / "p/.pixi/envs/default")
    assert find(tmp_path, str(tmp_path / "p")).path == made


def test_two_of_one_name_are_told_by_their_paths(tmp_path):
    known = [("lab", make(tmp_path / part / "lab")) for part in "ab"]
    with pytest.raises(UsageError, match="several environments") as found:
        find(tmp_path, "lab", *known)
    assert f"{tmp_path}/a/lab" in found.value.hint


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("laab", "did you mean lab"),
        ("zzzzzz", "known are lab"),
        ("", "known are lab"),
        ("./lab", "did you mean"),
    ],
)
def test_an_unknown_environment_is_named_with_those_near_it(tmp_path, text, hint):
    with pytest.raises(UsageError, match="there is no environment") as found:
        find(tmp_path, text, ("lab", make(tmp_path / "envs/lab")))
    assert hint in found.value.hint
    with pytest.raises(UsageError) as found:
        find(tmp_path, "x")
    assert "no environment is known here" in found.value.hint


def test_a_folder_that_is_none_is_said_to_be_none(tmp_path):
    (tmp_path / "plain").mkdir()
    with pytest.raises(UsageError, match="neither conda-meta nor"):
        find(tmp_path, "plain")


def test_the_filter_takes_what_names_the_environment(tmp_path):
    mine, both, others = entry("a"), entry("b"), entry("c")
    object.__setattr__(mine, "used_by", ("/e/lab",))
    object.__setattr__(both, "used_by", ("/e/other", "/e/lab"))
    object.__setattr__(others, "used_by", ("/e/lab2",))
    wanted = Filter(used_by=frozenset({"/e/lab", "/real/lab"}))
    assert [each.project for each in wanted.apply([mine, both, others, entry("d")], now=NOW)] == [
        "a",
        "b",
    ]


def test_condas_root_is_base_and_others_go_by_their_folder(tmp_path):
    root = make(tmp_path / "forge")
    make(root, "bin/conda")
    make(root / "envs/lab")
    named = make(tmp_path / "elsewhere/own")
    around = Surroundings(
        {"CONDA_EXE": str(root / "bin/conda"), "PATH": ""},
        tmp_path,
        tmp_path,
        environments=(named,),
    )
    known = {name: os.path.realpath(path) for name, path in named_environments(around)}
    assert known == {"base": str(root), "lab": str(root / "envs/lab"), "own": str(named)}
