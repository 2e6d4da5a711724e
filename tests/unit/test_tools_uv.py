"""uv's rules as tables.

Buckets, names, pointers, places on every platform, settings, layouts that nobody knows.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path, PurePosixPath

import msgpack
import pytest

from entrepot.errors import ConfigError, FormatError
from entrepot.ports.tool import Entry, Kind, Surroundings
from entrepot.tools.uv import removal
from entrepot.tools.uv.buckets import bucket_of, superseded
from entrepot.tools.uv.places import default, places
from entrepot.tools.uv.pointers import has_whole_tail, origin, read_pointer
from entrepot.tools.uv.removal import Busy, exclusive
from entrepot.tools.uv.rows import wheel_of
from entrepot.tools.uv.settings import UvSettings
from entrepot.tools.uv.tool import UvTool

POSIX = pytest.mark.skipif(os.name == "nt", reason="symbolic links and flock are POSIX's")
SHA = "ab" * 32


def around(home: Path | PurePosixPath, platform="linux", cwd=None, **environ) -> Surroundings:
    return Surroundings(
        environ, home, cwd or home, platform, os.geteuid() if hasattr(os, "geteuid") else -1
    )


# -- names and pointers ----------------------------------------------------------------------------


def test_a_bucket_newer_than_the_known_ones_is_not_understood():
    assert bucket_of("wheels-v8").is_known
    assert not bucket_of("wheels-v9").is_known
    assert not bucket_of("novelties-v0").is_known


def test_what_stands_beside_a_newer_bucket_is_superseded_and_an_unknown_family_never_is():
    names = [
        "wheels-v6",
        "wheels-v7",
        "simple-v27",
        "novelties-v0",
        "novelties-v1",
        "archive-v0",
        "built-wheels-v3",
        "sdists-v10",
    ]
    assert superseded(map(bucket_of, names)) == {"wheels-v6", "built-wheels-v3"}


@pytest.mark.parametrize(
    ("project", "stem", "told", "expected"),
    [
        ("a", "1.0-py3-none-any", None, ("a", "1.0", "a-1.0-py3-none-any.whl", "py3-none-any")),
        (
            "a-b",
            "1.0-7-py3-none-any",
            None,
            ("a-b", "1.0", "a_b-1.0-7-py3-none-any.whl", "py3-none-any"),
        ),
        (
            "a-b",
            "a_b-1.0-py3-none-any",
            None,
            ("a-b", "1.0", "a_b-1.0-py3-none-any.whl", "py3-none-any"),
        ),
        (
            "a-b",
            "A.B-1.0-7-py3-none-any",
            None,
            ("a-b", "1.0", "A.B-1.0-7-py3-none-any.whl", "py3-none-any"),
        ),
        (
            "a",
            "1.0-0123456789abcdef",
            "a-1.0-cp311-cp311-x.y.whl",
            ("a", "1.0", "a-1.0-cp311-cp311-x.y.whl", "cp311-cp311-x.y"),
        ),
        ("a", "1.0-0123456789abcdef", None, ("a", "1.0", None, "")),
    ],
)
def test_the_name_of_a_wheel_by_its_pointers_place(project, stem, told, expected):
    assert wheel_of(project, stem, told) == expected


POLICY = b'xxhttp://u:p@index.test/a/f-1.0-py3-none-any.whl"etag"' + bytes(80)
VALUES = {
    "0.5": (["ID", []], None, None),
    "0.8": (["ID", [], "f-1.0-py3-none-any.whl", 0], "f-1.0-py3-none-any.whl", None),
    "0.8 with a hash": (
        ["ID", [["Sha256", SHA]], "f-1.0-py3-none-any.whl", 0],
        "f-1.0-py3-none-any.whl",
        SHA,
    ),
    "0.12": (
        {
            "id": "ID",
            "hashes": [{"Sha256": SHA}],
            "filename": "f-1.0-py3-none-any.whl",
            "version": 0,
            "size": None,
        },
        "f-1.0-py3-none-any.whl",
        SHA,
    ),
    "0.13": (
        ["ID", [{"Sha512": "cd" * 64}, {"Sha256": SHA}], "f-1.0-py3-none-any.whl", 0, 9],
        "f-1.0-py3-none-any.whl",
        SHA,
    ),
}


@pytest.mark.parametrize("form", VALUES)
@pytest.mark.parametrize("length_of", ["policy", "value"])
def test_every_form_of_a_pointer_is_read_and_its_url_redacted(form, length_of, tmp_path):
    value, filename, sha = VALUES[form]
    data = msgpack.packb(value)
    path = tmp_path / "x.http"
    path.write_bytes(
        data + POLICY + len(POLICY if length_of == "policy" else data).to_bytes(8, "little")
    )
    found = read_pointer(path)
    assert (found.archive, found.filename, found.digest and found.digest.value) == (
        "ID",
        filename,
        sha,
    )
    assert found.origin == ("http://index.test/a/f-1.0-py3-none-any.whl" if filename else "")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93",
        bytes(8),
        msgpack.packb(["../x", []]) + b"p" + (1).to_bytes(8, "little"),
        b"\xff" * 60,
        b"\x81" * 4000,
    ],
)
def test_a_damaged_or_hostile_pointer_is_said_to_be_one(data, tmp_path):
    path = tmp_path / "x.http"
    path.write_bytes(data)
    with pytest.raises(FormatError):
        read_pointer(path)


def test_a_url_without_the_files_name_is_not_guessed():
    assert origin(b'http://index.test/simple/a/"etag"', "a-1.whl") == ""
    assert (
        origin(b"zhttp://index.test/a%2Bb-1.whl?token=s", "a+b-1.whl")
        == "http://index.test/a%2Bb-1.whl"
    )


@pytest.mark.parametrize(
    ("data", "whole"),
    [(b"", False), (bytes(16), False), (b"abc" + (3).to_bytes(8, "little"), True)],
)
def test_a_page_is_whole_when_its_tail_fits(data, whole, tmp_path):
    path = tmp_path / "p.rkyv"
    path.write_bytes(data)
    assert has_whole_tail(path) is whole


# -- places ----------------------------------------------------------------------------------------

WINDOWS = PurePosixPath(r"C:\Users\u")


@pytest.mark.parametrize(
    ("home", "platform", "environ", "expected"),
    [
        (PurePosixPath("/home/u"), "linux", {}, ("/home/u/.cache/uv", "default")),
        (PurePosixPath("/home/u"), "linux", {"XDG_CACHE_HOME": "/x"}, ("/x/uv", "XDG_CACHE_HOME")),
        (
            PurePosixPath("/home/u"),
            "linux",
            {"XDG_CACHE_HOME": "x"},
            ("/home/u/.cache/uv", "default"),
        ),
        (PurePosixPath("/Users/u"), "darwin", {}, ("/Users/u/.cache/uv", "default")),
        (
            PurePosixPath("/Users/u"),
            "darwin",
            {"XDG_CACHE_HOME": "/x"},
            ("/x/uv", "XDG_CACHE_HOME"),
        ),
        (WINDOWS, "win32", {}, (r"C:\Users\u\AppData\Local\uv\cache", "default")),
        (WINDOWS, "win32", {"LOCALAPPDATA": r"D:\l"}, (r"D:\l\uv\cache", "LOCALAPPDATA")),
        (
            WINDOWS,
            "win32",
            {"XDG_CACHE_HOME": "/x"},
            (r"C:\Users\u\AppData\Local\uv\cache", "default"),
        ),
    ],
)
def test_the_default_place(home, platform, environ, expected):
    assert default(around(home, platform, **environ)) == expected


def test_on_macos_the_old_place_counts_when_it_is_there(tmp_path):
    (tmp_path / "Library/Caches/uv").mkdir(parents=True)
    assert default(around(tmp_path, "darwin", XDG_CACHE_HOME="/x")) == (
        f"{tmp_path}/Library/Caches/uv",
        "default",
    )


@POSIX
def test_every_layer_is_shown_with_its_line_and_traps_are_told(tmp_path):
    (tmp_path / ".config/uv").mkdir(parents=True)
    (tmp_path / ".config/uv/uv.toml").write_text('[pip]\ncache-dir = "no"\n')
    (tmp_path / "uv.toml").write_text(
        '# mine\noffline = true\ncache-dir = "~/x"\n[[index]]\nurl = "https://u:p@index.test/simple"\n'
    )
    (tmp_path / ".cache/uv/wheels-v7").mkdir(parents=True)
    place, old = places(around(tmp_path, UV_NO_CACHE="0"))
    assert place.path == tmp_path / "~" / "x"
    assert [(layer.source, layer.wins) for layer in place.layers] == [
        (f"{tmp_path}/uv.toml:3", True),
        ("default", False),
    ]
    assert any("literally" in note for note in place.notes)
    assert place.sources == ("https://index.test/simple",)
    assert (old.label, old.path) == ("orphaned", tmp_path / ".cache/uv")


# -- settings --------------------------------------------------------------------------------------


@pytest.fixture
def settings(tmp_path) -> UvSettings:
    return UvSettings(around(tmp_path))


def write(tmp_path: Path, text: str, name: str = ".config/uv/uv.toml") -> Path:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    ("before", "key", "value", "after"),
    [
        ("", "cache-dir", "/c", 'cache-dir = "/c"\n'),
        ("a = 1\r\n# x\r\n", "cache-dir", "/c", 'a = 1\r\n# x\r\ncache-dir = "/c"\n'),
        (
            'cache-dir = "/old" # why\noffline = true\n',
            "cache-dir",
            "/c",
            'cache-dir = "/c" # why\noffline = true\n',
        ),
        (
            "[pip] # x\nstrict = true\n",
            "pip.link-mode",
            "copy",
            '[pip] # x\nstrict = true\nlink-mode = "copy"\n',
        ),
        ("offline = true # y\n", "offline", "false", "offline = false # y\n"),
        ("concurrent-builds=1\n", "concurrent-builds", "4", "concurrent-builds=4\n"),
    ],
)
def test_only_the_asked_line_changes(before, key, value, after, tmp_path):
    settings = UvSettings(around(tmp_path))
    path = write(tmp_path, before)
    change = settings.set(key, value)
    assert path.read_bytes().decode() == after
    assert (change.path, change.key, change.after) == (path, key, value)
    assert settings.get(key) == value


def test_a_key_is_changed_where_it_counts_and_unset_from_there(settings, tmp_path):
    user = write(tmp_path, 'cache-dir = "/u"\n')
    project = write(
        tmp_path, '[project]\nname = "p"\n[tool.uv] # t\ncache-dir = "/p" # c\n', "pyproject.toml"
    )
    assert settings.set("cache-dir", "/n").path == project
    assert project.read_text() == '[project]\nname = "p"\n[tool.uv] # t\ncache-dir = "/n" # c\n'
    assert settings.unset("cache-dir").before == "/n"
    assert settings.get("cache-dir") == "/u"
    assert user.read_text() == 'cache-dir = "/u"\n'


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("link-mode", "soft"),
        ("offline", "perhaps"),
        ("cache_dir", "/c"),
        ("cache-dir", ""),
        ("a..b", "1"),
    ],
)
def test_what_uv_would_stop_at_is_not_written(key, value, settings, tmp_path):
    with pytest.raises(ConfigError):
        settings.set(key, value)
    assert not (tmp_path / ".config").exists()


def test_a_broken_file_is_named_and_left_alone(settings, tmp_path):
    path = write(tmp_path, "cache-dir = \n")
    with pytest.raises(ConfigError, match=r"uv\.toml"):
        settings.set("cache-dir", "/c")
    assert path.read_text() == "cache-dir = \n"
    (place,) = places(around(tmp_path))
    assert not place.usable
    assert "line 1" in place.why_not


def test_a_variable_above_the_file_is_told(tmp_path):
    settings = UvSettings(around(tmp_path, UV_CACHE_DIR="/v"))
    assert settings.set("cache-dir", "/c").verified == "/v"
    with pytest.raises(ConfigError) as caught:
        UvSettings(around(tmp_path / "other", UV_CACHE_DIR="/v")).unset("cache-dir")
    assert "UV_CACHE_DIR" in caught.value.hint


def test_a_variable_can_take_the_place_of_a_setting_where_uv_has_one(tmp_path):
    settings = UvSettings(around(tmp_path, UV_LINK_MODE="copy"))
    variable, change = settings.export("link-mode", "symlink")
    assert (variable, change.path, change.before, change.after) == (
        "UV_LINK_MODE",
        None,
        "copy",
        "symlink",
    )
    for key, value in (("pip.link-mode", "copy"), ("index", "x"), ("link-mode", "soft")):
        with pytest.raises(ConfigError):
            settings.export(key, value)
    assert not (tmp_path / ".config").exists()


def test_secrets_are_masked(tmp_path):
    write(
        tmp_path,
        'index-url = "https://u:pa55@index.test/simple"\n[[index]]\nname = "x"\nurl = "https://v:pa55@b.test/"\n',
    )
    shown = str(
        list(
            UvSettings(
                around(tmp_path, UV_INDEX_X_PASSWORD="pa55", UV_INDEX_URL="https://a:pa55@c.test/")
            ).items()
        )
    )
    assert "pa55" not in shown
    assert all(host in shown for host in ("index.test", "b.test", "c.test"))


# -- what lies in it -------------------------------------------------------------------------------


class Made:
    """A cache made by hand."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "cache"
        self.around = around(folder / "home", UV_CACHE_DIR=str(self.root))
        self.tool = UvTool(folder / "state", time.time, wait_s=0.2)
        self.root.mkdir()

    def archive(self, name: str, project: str = "a") -> Path:
        path = self.root / "archive-v0" / name
        (path / f"{project}-1.0.dist-info").mkdir(parents=True)
        (path / f"{project}-1.0.dist-info" / "RECORD").write_text("")
        (path / "module.py").write_bytes(b"x" * 5000)
        return path

    def pointer(self, archive: str, project: str = "a", bucket: str = "wheels-v7") -> Path:
        folder = self.root / bucket / "pypi" / project
        folder.mkdir(parents=True)
        link = folder / "1.0-py3-none-any"
        link.symlink_to(f"../../../archive-v0/{archive}")
        return link

    def entries(self) -> list[Entry]:
        return list(self.tool.scan(self.tool.places(self.around)[0], self.around))

    def age(self) -> None:
        """Let everything be two hours old, as far as a test can: the tool's clock goes forward."""
        self.tool = UvTool(self.tool._state, lambda: time.time() + 7200, wait_s=0.2)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


@POSIX
def test_an_unknown_layout_is_shown_by_size_and_never_touched(made):
    for name in ("wheels-v99", "novelties-v0", "notes"):
        (made.root / name).mkdir()
        (made.root / name / "file").write_bytes(b"x" * 9000)
    made.age()
    entries = made.entries()
    assert {e.key for e in entries} == {"wheels-v99", "novelties-v0", "notes"}
    assert {(e.kind, e.blocked, e.removable_because, e.freeable) for e in entries} == {
        (Kind.OTHER, "unknown layout: sizes only", "", 0)
    }
    assert all(e.size >= 9000 for e in entries)
    done = made.tool.remove(entries, made.around, force=True)
    assert not done.entries
    assert (made.root / "notes" / "file").exists()


@POSIX
def test_an_archive_that_a_bucket_of_the_future_may_lead_to_is_no_orphan(made):
    made.archive("one")
    (made.root / "sdists-v12").mkdir()
    made.age()
    (entry,) = [e for e in made.entries() if e.kind is Kind.UNPACKED]
    assert entry.blocked == "an unknown layout may lead to it"
    (made.root / "sdists-v12").rmdir()
    (entry,) = made.entries()
    assert (entry.blocked, entry.removable_because) == ("", "orphan")


@POSIX
def test_an_archive_that_two_entries_lead_to_goes_with_the_last(made):
    folder = made.archive("one")
    made.pointer("one")
    made.pointer("one", "b")
    first, second = made.entries()
    assert first.shared == second.shared
    assert first.shared.key == "one"
    made.tool.remove([first], made.around)
    assert folder.exists()
    (left,) = made.entries()
    assert left.shared is None
    made.tool.remove([left], made.around)
    assert not folder.exists()


@POSIX
def test_a_link_out_of_the_cache_is_not_followed(made, tmp_path):
    outside = tmp_path / "precious"
    outside.mkdir()
    (outside / "file").write_text("x")
    link = made.pointer("one")
    link.unlink()
    link.symlink_to(outside)
    made.age()
    made.tool.remove(made.entries(), made.around)
    assert (outside / "file").read_text() == "x"


@POSIX
def test_read_only_directories_of_an_archive_go_too(made):
    folder = made.archive("one")
    made.pointer("one")
    folder.chmod(0o555)
    (folder / "a-1.0.dist-info").chmod(0o555)
    done = made.tool.remove(made.entries(), made.around)
    assert not folder.exists()
    assert not done.kept


@POSIX
def test_what_changed_since_it_was_listed_stays(made):
    folder = made.archive("one")
    made.pointer("one")
    entries = made.entries()
    made.archive("two")
    link = made.root / "wheels-v7/pypi/a/1.0-py3-none-any"
    link.unlink()
    link.symlink_to("../../../archive-v0/two")
    assert made.tool.remove(entries, made.around).kept[0][1] == "it changed since it was listed"
    assert folder.exists()


@POSIX
def test_a_temporary_directory_stays_while_it_may_be_written_to_and_a_left_over_trash_goes(made):
    (made.root / "builds-v0" / ".tmpabc").mkdir(parents=True)
    (made.root / ".entrepot-trash-12").mkdir()
    (made.root / ".entrepot-trash-12" / "file").write_bytes(b"x" * 9000)
    assert {(e.kind, e.removable_because) for e in made.entries()} == {(Kind.TEMP, "")}
    made.age()
    entries = made.entries()
    assert {(e.kind, e.removable_because) for e in entries} == {(Kind.TEMP, "stale temporary")}
    made.tool.remove(entries, made.around)
    assert not (made.root / ".entrepot-trash-12").exists()
    assert [path.name for path in made.root.iterdir()] != [".entrepot-trash-12"]
    assert not [path for path in made.root.iterdir() if path.name.startswith(".entrepot")]


@POSIX
def test_a_lock_that_somebody_holds_is_waited_for_and_named(made):
    made.archive("one")
    made.pointer("one")
    entries = made.entries()
    with exclusive(made.root):
        with pytest.raises(Busy), exclusive(made.root, wait_s=0.1):
            pass
        done = made.tool.remove(entries, made.around)
        assert not done.entries
        assert "in use" in done.kept[0][1]
        assert made.tool.remove(entries, made.around, force=True).entries == tuple(entries)


@POSIX
def test_an_older_uv_that_comes_meanwhile_gets_everything_back(made, monkeypatch):
    folder = made.archive("one")
    link = made.pointer("one")
    answers = iter([None, "the cache may be in use by process 1 (uv pip), a uv that takes no lock"])
    monkeypatch.setattr("entrepot.tools.uv.removal.lockless_uv", lambda _root: next(answers) or "")
    done = made.tool.remove(made.entries(), made.around)
    assert [why for _, why in done.kept] == [
        "the cache may be in use by process 1 (uv pip), a uv that takes no lock"
    ]
    assert (link / "module.py").read_bytes() == b"x" * 5000
    assert folder.exists()
    assert done.freed == 0


@POSIX
def test_an_archive_stays_for_an_entry_that_was_put_back(made, monkeypatch):
    folder = made.archive("one")
    made.pointer("one")
    made.pointer("one", "b")
    monkeypatch.setattr("entrepot.tools.uv.removal.UvRemoval.batch", 1)
    answers = iter(["", "an older uv", "", ""])
    monkeypatch.setattr("entrepot.tools.uv.removal.lockless_uv", lambda _root: next(answers))
    done = made.tool.remove(made.entries(), made.around)
    ((kept, why),) = done.kept
    assert (why, len(done.entries)) == ("an older uv", 1)
    assert folder.exists() and (kept.paths[0] / "module.py").exists()


def test_a_cache_that_is_not_there_has_no_entries(tmp_path):
    world = around(tmp_path, UV_CACHE_DIR=str(tmp_path / "none"))
    tool = UvTool(tmp_path / "state")
    assert not list(tool.scan(tool.places(world)[0], world))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root owns it")
def test_a_cache_that_root_left_can_be_taken_back_and_nothing_else(tmp_path):
    cache = tmp_path / "uv cache; rm x"
    (cache / "folder").mkdir(parents=True)
    user = Surroundings({"UV_CACHE_DIR": str(cache)}, tmp_path, tmp_path, euid=4711)
    assert "chown" not in places(user)[0].why_not, "no cache of uv's: it may be any directory"
    (cache / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n")
    assert f"or: sudo chown -R 4711 '{cache}'" in places(user)[0].why_not
    above = replace(user, environ={"UV_CACHE_DIR": str(cache / "sub")})
    assert "chown" not in places(above)[0].why_not
    os.chown(cache, 4712, 4712)
    assert "may not write to it" in places(user)[0].why_not
    assert "chown" not in places(user)[0].why_not


def test_a_uv_that_ended_while_it_was_looked_at_uses_no_cache(tmp_path, monkeypatch):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert not removal._may_use(Path("/proc", str(ended.pid)), tmp_path)

    def refuse(*_args):
        raise PermissionError

    monkeypatch.setattr("entrepot.tools.uv.removal.environment_of", refuse)
    assert removal._may_use(Path("/proc", str(os.getpid())), tmp_path)
