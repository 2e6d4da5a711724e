"""Editing the configuration file."""

import os
import stat
from pathlib import Path

import pytest

from entrepot.config.file import OwnSettings
from entrepot.errors import ConfigError, UsageError
from entrepot.ports.tool import Surroundings

TEXT = """\
# my settings
offline = false   # at home

[limit]
# small disk
total = "5GB"

[other]
thing = 1
"""


@pytest.fixture
def around(tmp_path):
    (tmp_path / "work").mkdir()
    return Surroundings({"XDG_CONFIG_DIRS": str(tmp_path / "site")}, tmp_path, tmp_path / "work")


@pytest.fixture
def file(around):
    path = around.home / ".config/entrepot/config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(TEXT)
    return path


def test_setting_a_key_changes_its_line_alone(around, file):
    change = OwnSettings(around).set("limit.total", "7GB")
    assert file.read_text() == TEXT.replace("5GB", "7GB")
    assert (change.path, change.before, change.after, change.verified) == (
        file,
        "5GB",
        "7GB",
        "7GB",
    )


def test_unsetting_a_key_removes_its_line_alone(around, file):
    change = OwnSettings(around).unset("offline")
    assert file.read_text() == TEXT.replace("offline = false   # at home\n", "")
    assert (change.before, change.after) == ("false", None)


def test_a_key_that_is_no_setting_can_be_unset_but_not_set(around, file):
    OwnSettings(around).unset("other.thing")
    assert "thing" not in file.read_text()
    with pytest.raises(UsageError):
        OwnSettings(around).set("other.thing", "2")
    with pytest.raises(UsageError):
        OwnSettings(around).unset("other.thing")


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("offline", "yes", "offline = true"),
        ("hosts", "a.test, b.test:81", 'hosts = ["a.test", "b.test:81"]'),
        ("timeout", "5s", 'timeout = "5s"'),
        ("store", "~/c", 'store = "~/c"'),
        ("limit.total", "none", 'total = "none"'),
    ],
)
def test_values_are_written_with_their_type_into_a_new_file(around, key, value, line):
    settings = OwnSettings(around)
    settings.set(key, value)
    assert line in settings.file().read_text().splitlines()


def test_a_relative_path_is_written_as_what_the_shell_meant(around):
    settings = OwnSettings(around)
    settings.set("store", "cache")
    assert settings.get("store") == str(around.cwd / "cache")


@pytest.mark.parametrize(
    ("key", "value"), [("limit.total", "lots"), ("offline", "maybe"), ("timeout", "-1")]
)
def test_a_value_of_the_wrong_kind_is_refused_and_nothing_is_written(around, file, key, value):
    with pytest.raises(ConfigError):
        OwnSettings(around).set(key, value)
    assert file.read_text() == TEXT


def test_a_file_whose_table_is_none_is_refused_and_left_alone(around, file):
    file.write_text("limit = 5\n")
    with pytest.raises(ConfigError, match="limit is not a table"):
        OwnSettings(around).set("limit.total", "5GB")
    assert file.read_text() == "limit = 5\n"


def test_line_ends_and_a_byte_order_mark_stay(around, file):
    before = b"\xef\xbb\xbf# mine\r\noffline = false\r\n"
    file.write_bytes(before)
    OwnSettings(around).set("offline", "true")
    assert file.read_bytes() == before.replace(b"false", b"true")


def test_unsetting_what_the_file_does_not_set_writes_nothing(around, file):
    before = file.stat()
    change = OwnSettings(around).unset("timeout")
    assert (change.before, change.after) == (None, None)
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_the_mode_is_kept_and_a_symbolic_link_is_written_through(around, file):
    real = around.home / "dotfiles.toml"
    file.rename(real)
    real.chmod(0o600)
    file.symlink_to(real)
    OwnSettings(around).set("offline", "true")
    assert file.is_symlink()
    assert "offline = true" in real.read_text()
    assert stat.S_IMODE(real.stat().st_mode) == 0o600


def test_no_half_written_file_is_left_when_the_disk_refuses(around, file, monkeypatch):
    def refuse(_fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(ConfigError):
        OwnSettings(around).set("offline", "true")
    assert file.read_text() == TEXT
    assert list(file.parent.iterdir()) == [file]


def test_items_give_every_layer_weakest_first(around, file):
    around = Surroundings({**around.environ, "ENTREPOT_LIMIT": "1GB"}, around.home, around.cwd)
    rows = [
        (value, source)
        for key, value, source in OwnSettings(around).items()
        if key == "limit.total"
    ]
    assert [value for value, _ in rows][1:] == ["5GB", "1GB"]
    assert rows[1][1] == f"{file}:6"
    assert rows[2][1] == "ENTREPOT_LIMIT"


def test_another_wrong_key_does_not_stop_the_mending_of_this_one(around, file):
    file.write_text('timeout = "soon"\nyes = 5\n')
    OwnSettings(around).unset("timeout")
    OwnSettings(around).set("yes", "true")
    assert file.read_text() == "yes = true\n"


def test_the_file_is_the_one_that_the_variable_names(around, tmp_path):
    around = Surroundings(
        {"ENTREPOT_CONFIG": str(tmp_path / "sub/mine.toml")}, around.home, around.cwd
    )
    OwnSettings(around).set("yes", "1")
    assert Path(tmp_path / "sub/mine.toml").read_text() == "yes = true\n"
