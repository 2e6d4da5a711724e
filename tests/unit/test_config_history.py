"""The journal of changed settings.

The changed key alone, for its owner's eyes, and no credential.
"""

import json
import os
from pathlib import Path

import pytest

from entrepot.config.file import OwnSettings
from entrepot.config.history import KEPT, UndoJournal, set_where, shell_files
from entrepot.errors import ConfigError
from entrepot.ports.tool import Change, Surroundings


@pytest.fixture
def around(tmp_path):
    return Surroundings({"XDG_CONFIG_DIRS": str(tmp_path / "site")}, tmp_path, tmp_path)


def change(key="global.timeout", before="1", after="2", path="/c/pip.conf"):
    return Change(Path(path), key, before, after, "")


def test_the_last_change_of_a_tool_is_found_and_then_the_one_before_it(around):
    journal = UndoJournal(around)
    for tool, key in (("pip", "a"), ("conda", "b"), ("pip", "c")):
        journal.add(tool, change(key))
    assert journal.last("pip").change == change("c")
    journal.drop("pip")
    assert journal.last("pip").change == change("a")
    assert journal.last("conda").change == change("b")
    journal.drop("pip")
    assert journal.last("pip") is None


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
        "lines",
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
    assert journal.last("pip").secret


def test_what_changed_nothing_or_no_file_is_not_remembered(around):
    journal = UndoJournal(around)
    journal.add("pip", change(before="1", after="1"))
    journal.add("pip", Change(None, "global.timeout", None, "1", ""))
    assert journal.last("pip") is None


def test_it_does_not_grow_for_ever_and_survives_a_damaged_line(around):
    journal = UndoJournal(around)
    for number in range(KEPT + 5):
        journal.add("pip", change(str(number)))
    assert len(journal.path.read_text().splitlines()) == KEPT
    with journal.path.open("a") as file:
        file.write('{"half')
    assert journal.last("pip").change.key == str(KEPT + 4)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nothing stops root from writing")
def test_a_state_directory_that_cannot_be_written_is_a_sentence(around):
    (around.home / ".local").mkdir(mode=0o500)
    with pytest.raises(ConfigError, match="cannot be remembered"):
        UndoJournal(around).add("pip", change())


def test_a_setting_of_our_own_comes_back_as_it_was_written(around):
    settings = OwnSettings(around)
    settings.file().parent.mkdir(parents=True)
    settings.file().write_text('# mine\nstore = "cache"  # relative\n')
    before = settings.file().read_text()
    done = settings.set("store", "/elsewhere")
    assert settings.restore(done).after == "cache"
    assert settings.file().read_text() == before


def test_a_setting_of_our_own_that_somebody_else_changed_is_left_alone(around):
    settings = OwnSettings(around)
    done = settings.set("timeout", "10s")
    settings.set("timeout", "20s")
    with pytest.raises(ConfigError, match="changed since"):
        settings.restore(done)
    assert settings.get("timeout") == "20s"


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
