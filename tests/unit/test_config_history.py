"""The journal of changed settings.

The changed key alone, for its owner's eyes, and no credential.
"""

import json
import os
from pathlib import Path

import pytest

from entrepot.config.history import KEPT, UndoJournal, set_where, shell_files
from entrepot.edits import patch_of
from entrepot.errors import ChangedSince, ConfigError
from entrepot.ports.tool import Change, Surroundings


@pytest.fixture
def around(tmp_path):
    return Surroundings({"XDG_CONFIG_DIRS": str(tmp_path / "site")}, tmp_path, tmp_path)


def change(key="global.timeout", before="1", after="2"):
    lines = (f"timeout = {before}\n".encode(), f"timeout = {after}\n".encode())
    return Change(Path("/c/pip.conf"), key, before, after, "", patch=patch_of(*lines))


def last_key(journal, tool):
    """The key of the change that would be taken back; the file is not as it left it."""
    with pytest.raises(ChangedSince) as caught:
        journal.undo(tool)
    return caught.value.name


def test_the_last_change_of_a_tool_is_found_and_then_the_one_before_it(around):
    journal = UndoJournal(around)
    for tool, key in (("pip", "a"), ("conda", "b"), ("pip", "c")):
        journal.add(tool, change(key))
    assert [last_key(journal, "pip"), last_key(journal, "pip")] == ["c", "a"]
    assert journal.undo("pip") is None
    assert last_key(journal, "conda") == "b"


def test_it_holds_the_changed_key_alone_and_is_for_its_owner_only(around):
    journal = UndoJournal(around)
    journal.add("pip", change())
    assert journal.path.stat().st_mode & 0o777 == 0o600
    assert journal.path.parent.stat().st_mode & 0o777 == 0o700
    (record,) = map(json.loads, journal.path.read_text().splitlines())
    assert record.keys() == {
        "at",
        "tool",
        "path",
        "key",
        "before",
        "after",
        "secret",
        "patch",
    }


@pytest.mark.parametrize(
    "values",
    [("https://me:pw@index.test/s", "x"), (None, "https://a.test https://me:pw@index.test/s")],
)
def test_a_credential_is_not_written(around, values):
    journal = UndoJournal(around)
    journal.add("pip", change("global.index-url", *values))
    assert "pw" not in journal.path.read_text()
    with pytest.raises(ConfigError, match="credential"):
        journal.undo("pip")


def test_a_credential_by_the_name_of_its_key_is_not_written_where_its_line_does_not_name_it(around):
    journal = UndoJournal(around)
    patch = patch_of(b"anaconda_token:\n  tk-OLD\n", b"anaconda_token:\n  tk-NEW\n")
    made = Change(Path("/c/.condarc"), "anaconda_token", "tk-OLD", "tk-NEW", "", patch=patch)
    assert not journal.add("conda", made)
    assert "tk-" not in journal.path.read_text()


def test_what_changed_nothing_or_no_file_is_not_remembered(around):
    journal = UndoJournal(around)
    journal.add("pip", Change(Path("/c/pip.conf"), "global.timeout", "1", "1", ""))
    journal.add("pip", Change(None, "global.timeout", None, "1", ""))
    assert journal.undo("pip") is None


def test_it_does_not_grow_for_ever_and_survives_a_damaged_line(around):
    journal = UndoJournal(around)
    for number in range(KEPT + 5):
        journal.add("pip", change(str(number)))
    assert len(journal.path.read_text().splitlines()) == KEPT
    with journal.path.open("a") as file:
        file.write('{"half')
    assert last_key(journal, "pip") == str(KEPT + 4)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nothing stops root from writing")
def test_a_state_directory_that_cannot_be_written_is_a_sentence(around):
    (around.home / ".local").mkdir(mode=0o500)
    with pytest.raises(ConfigError, match="cannot be remembered"):
        UndoJournal(around).add("pip", change())


def test_the_line_of_a_shell_file_that_sets_a_variable_is_found(around):
    assert set_where("PIP_CACHE_DIR", around) == ""
    (around.home / ".bashrc").write_text(
        "# export PIP_CACHE_DIR=/no\nexport XPIP_CACHE_DIR=/no\nexport PIP_CACHE_DIR=/yes\n"
    )
    assert set_where("PIP_CACHE_DIR", around) == f"{around.home}/.bashrc:3"


@pytest.mark.parametrize(
    ("shell", "name"), [("/bin/bash", ".bashrc"), ("/bin/zsh", ".zshrc"), ("", ".profile")]
)
def test_the_users_own_shell_decides_which_file_comes_first(around, shell, name):
    around = Surroundings({"SHELL": shell}, around.home, around.cwd)
    assert shell_files(around)[0].name == name
