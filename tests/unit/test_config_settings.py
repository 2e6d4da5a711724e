"""Where settings come from."""

from pathlib import Path

import pytest

from entrepot.config import settings as config
from entrepot.config.settings import (
    KEYS,
    cache_dir,
    config_dir,
    default_limit,
    line_of,
    load_settings,
    nearest,
    site_dir,
    state_dir,
    user_file,
)
from entrepot.errors import ConfigError
from entrepot.ports.tool import Surroundings


class World:
    """A home, a working directory and a site directory of its own."""

    def __init__(self, base: Path) -> None:
        self.home, self.cwd, self.site = base / "home", base / "cwd", base / "xdg"
        for path in (self.home, self.cwd, self.site):
            path.mkdir()

    def around(self, **environ: str) -> Surroundings:
        return Surroundings({"XDG_CONFIG_DIRS": str(self.site), **environ}, self.home, self.cwd)

    def user(self, text: str) -> Path:
        return self.write(self.home / ".config/entrepot/config.toml", text)

    def site_file(self, text: str, name: str = "config.toml") -> Path:
        return self.write(self.site / "entrepot" / name, text)

    def write(self, path: Path, text: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def origins(settings, name):
    return [(said.kind, said.source, said.text) for said in settings.said[name]]


def test_without_anything_all_is_default(world):
    settings = load_settings(world.around())
    assert settings.store == world.home / ".cache/entrepot"
    assert 0 < settings.limit_total <= 20_000_000_000
    assert (settings.timeout_s, settings.hosts, settings.offline, settings.yes, settings.log) == (
        30.0,
        (),
        False,
        False,
        None,
    )
    assert all(layers[0].kind == "default" for layers in settings.said.values())


def test_a_flag_beats_a_variable_beats_the_user_beats_a_drop_in_beats_the_site_beats_the_default(
    world,
):
    site = world.site_file('store = "/site"\n')
    first = world.site_file('store = "/10"\n', "conf.d/10-lab.toml")
    last = world.site_file('\nstore = "/20"\n', "conf.d/20-lab.toml")
    user = world.user('# mine\n\nstore = "/user"\n')
    settings = load_settings(world.around(ENTREPOT_STORE="/env"), "/flag")
    assert settings.store == Path("/flag")
    assert origins(settings, "store") == [
        ("option", "--store", "/flag"),
        ("environment", "ENTREPOT_STORE", "/env"),
        ("file", f"{user}:3", "/user"),
        ("file", f"{last}:2", "/20"),
        ("file", f"{first}:1", "/10"),
        ("file", f"{site}:1", "/site"),
        ("default", "default", str(world.home / ".cache/entrepot")),
    ]
    assert [layer.wins for layer in settings.layers("store")] == [True] + [False] * 6


@pytest.mark.parametrize(
    ("word", "value"),
    [("0", False), ("off", False), ("No", False), ("FALSE", False), ("1", True), ("yes", True)],
)
def test_falsy_words_really_mean_false(world, word, value):
    assert load_settings(world.around(ENTREPOT_OFFLINE=word)).offline is value


def test_an_empty_variable_is_an_unset_one(world):
    world.user("offline = true\n")
    assert load_settings(world.around(ENTREPOT_OFFLINE="")).offline is True


def test_each_kind_of_value_is_read_from_the_file_and_from_variables(world):
    world.user(
        'timeout = 5\nhosts = ["a.test", "b.test:8080"]\nlog = "logs/x.log"\nyes = true\n[limit]\ntotal = "5GiB"\n'
    )
    settings = load_settings(world.around())
    assert (settings.timeout_s, settings.hosts, settings.yes) == (
        5.0,
        ("a.test", "b.test:8080"),
        True,
    )
    assert settings.limit_total == 5 * 1024**3
    assert settings.log == world.home / ".config/entrepot/logs/x.log"
    by_variable = load_settings(
        world.around(
            ENTREPOT_TIMEOUT="1min",
            ENTREPOT_HOSTS="c.test, d.test",
            ENTREPOT_LIMIT="none",
            ENTREPOT_LOG="~/x.log",
            ENTREPOT_YES="0",
        )
    )
    assert (by_variable.timeout_s, by_variable.hosts, by_variable.limit_total) == (
        60.0,
        ("c.test", "d.test"),
        None,
    )
    assert (by_variable.log, by_variable.yes) == (world.home / "x.log", False)


def test_a_relative_path_is_relative_to_its_file_or_to_the_working_directory(world):
    world.user('store = "../cache"\n')
    assert load_settings(world.around()).store == world.home / ".config/cache"
    assert load_settings(world.around(ENTREPOT_STORE="cache")).store == world.cwd / "cache"
    assert load_settings(world.around(), "./here/").store == world.cwd / "here"


@pytest.mark.parametrize(
    ("text", "name", "line"),
    [
        ("offline = 3\n", "offline", 1),
        ('\noffline = "perhaps"\n', "offline", 2),
        ("store = 5\n", "store", 1),
        ('store = ""\n', "store", 1),
        ("[limit]\n# x\ntotal = -1\n", "limit.total", 3),
        ("limit.total = true\n", "limit.total", 1),
        ('limit = { total = "much" }\n', "limit.total", 1),
        ("timeout = 0\n", "timeout", 1),
        ("hosts = [1]\n", "hosts", 1),
    ],
)
def test_a_wrong_value_names_its_setting_and_its_line(world, text, name, line):
    path = world.user(text)
    with pytest.raises(ConfigError) as caught:
        load_settings(world.around())
    assert (caught.value.name, caught.value.source) == (name, f"{path}:{line}")
    assert f"{path}:{line}" in caught.value.message


def test_a_wrong_variable_names_the_variable(world):
    with pytest.raises(ConfigError) as caught:
        load_settings(world.around(ENTREPOT_LIMIT="lots"))
    assert caught.value.source == "ENTREPOT_LIMIT"
    assert "20GB" in caught.value.hint


def test_a_file_that_is_not_toml_is_named_with_its_line(world):
    path = world.user("store = 'a'\nstore = 'b'\n")
    with pytest.raises(ConfigError) as caught:
        load_settings(world.around())
    assert str(path) in caught.value.source
    assert caught.value.hint == "entrepot config edit"


@pytest.mark.parametrize(
    ("text", "line", "near"),
    [
        ("ofline = true\n", 1, "offline"),
        ("[limit]\ntotl = 1\n", 2, "limit.total"),
        ("\ntotal = 1\n", 2, "limit.total"),
    ],
)
def test_an_unknown_key_is_a_complaint_with_its_line_and_the_nearest_key(world, text, line, near):
    path = world.user(text)
    (complaint,) = load_settings(world.around()).complaints
    assert f"{path}:{line}" in complaint.text
    assert near in complaint.fix


def test_a_key_like_nothing_has_no_nearest():
    assert nearest("zzzzzz") == ""


def test_a_named_file_takes_the_place_of_the_users(world):
    world.user("offline = true\n")
    named = world.write(world.cwd / "mine.toml", "yes = true\n")
    settings = load_settings(world.around(ENTREPOT_CONFIG="mine.toml"))
    assert (settings.offline, settings.yes) == (False, True)
    assert user_file(world.around(ENTREPOT_CONFIG="mine.toml")) == named


def test_a_named_file_that_is_not_there_is_complained_about(world):
    (complaint,) = load_settings(world.around(ENTREPOT_CONFIG="none.toml")).complaints
    assert complaint.id == "missing-config"


def test_a_byte_order_mark_is_no_mistake(world):
    path = world.user("")
    path.write_bytes(b"\xef\xbb\xbfoffline = true\n")
    assert load_settings(world.around()).offline is True


def test_an_unreadable_file_is_an_error_and_not_a_default(world):
    world.user("").unlink()
    (world.home / ".config/entrepot/config.toml").mkdir()
    with pytest.raises(ConfigError):
        load_settings(world.around())


@pytest.mark.parametrize(
    ("text", "name", "line"),
    [
        ('a = 1\n[limit]\n"total" = 3\n', "limit.total", 3),
        ("limit.total = 3\n", "limit.total", 1),
        ("[x]\ntotal = 1\n[limit]\ntotal = 3\n", "limit.total", 4),
        ("limit = {total = 3}\n", "limit.total", 1),
        ("# nothing\n", "limit.total", 1),
    ],
)
def test_the_line_of_a_key_is_found_in_each_of_tomls_forms(text, name, line):
    assert line_of(text, name) == line


def test_every_key_has_a_variable_of_its_own():
    assert len({key.variable for key in KEYS}) == len(KEYS)
    assert config.BY_NAME["limit.total"].variable == "ENTREPOT_LIMIT"


def test_the_default_cap_is_a_tenth_of_a_small_disk_and_is_known_before_the_store_is_made(
    tmp_path, monkeypatch
):
    class Small:
        f_frsize, f_blocks = 4096, 1_000_000

    monkeypatch.setattr(config.os, "statvfs", lambda _path: Small)
    assert default_limit(tmp_path / "not" / "yet") == (409_600_000, "default, a tenth of the disk")


LINUX = {"XDG_CONFIG_HOME": "/x/c", "XDG_CACHE_HOME": "/x/k", "XDG_STATE_HOME": "/x/s"}


@pytest.mark.parametrize(
    ("platform", "environ", "expected"),
    [
        (
            "linux",
            {},
            (
                "/h/.config/entrepot",
                "/h/.cache/entrepot",
                "/h/.local/state/entrepot",
                "/etc/xdg/entrepot",
            ),
        ),
        ("linux", LINUX, ("/x/c/entrepot", "/x/k/entrepot", "/x/s/entrepot", "/etc/xdg/entrepot")),
        (
            "linux",
            {"XDG_CONFIG_HOME": "rel", "XDG_CACHE_HOME": "", "XDG_CONFIG_DIRS": "/a:/b"},
            (
                "/h/.config/entrepot",
                "/h/.cache/entrepot",
                "/h/.local/state/entrepot",
                "/a/entrepot",
            ),
        ),
        (
            "darwin",
            {},
            (
                "/h/Library/Application Support/entrepot",
                "/h/Library/Caches/entrepot",
                "/h/Library/Application Support/entrepot",
                "/Library/Application Support/entrepot",
            ),
        ),
        (
            "darwin",
            LINUX,
            (
                "/x/c/entrepot",
                "/x/k/entrepot",
                "/x/s/entrepot",
                "/Library/Application Support/entrepot",
            ),
        ),
    ],
    ids=["linux", "linux with XDG", "relative XDG is ignored", "macOS", "macOS with XDG"],
)
def test_directories_follow_the_platform_and_xdg(platform, environ, expected):
    around = Surroundings(environ, Path("/h"), Path("/w"), platform=platform)
    assert tuple(str(of(around)) for of in (config_dir, cache_dir, state_dir, site_dir)) == expected


def test_on_macos_a_dot_config_directory_that_exists_is_used(tmp_path):
    around = Surroundings({}, tmp_path, tmp_path, platform="darwin")
    (tmp_path / ".config/entrepot").mkdir(parents=True)
    assert config_dir(around) == tmp_path / ".config/entrepot"


def test_on_windows_the_variables_decide():
    around = Surroundings(
        {"APPDATA": "/roam", "LOCALAPPDATA": "/local", "PROGRAMDATA": "/all"},
        Path("/h"),
        Path("/w"),
        platform="win32",
    )
    found = [str(of(around)) for of in (config_dir, cache_dir, state_dir, site_dir)]
    assert found == ["/roam/entrepot", "/local/entrepot/Cache", "/local/entrepot", "/all/entrepot"]


def test_on_this_platform_the_directories_are_those_of_platformdirs(tmp_path, monkeypatch):
    """The variables come in as an argument here.

    The library reads the process's own, so it is only asked in this test.
    """
    import sys

    import platformdirs

    if sys.platform != "linux":
        pytest.skip(
            "on macOS the XDG variables are honoured on purpose, which platformdirs does only lately"
        )
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_CONFIG_DIRS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    around = Surroundings({}, tmp_path, tmp_path)
    assert str(config_dir(around)) == platformdirs.user_config_dir("entrepot", appauthor=False)
    assert str(cache_dir(around)) == platformdirs.user_cache_dir("entrepot", appauthor=False)
    assert str(state_dir(around)) == platformdirs.user_state_dir("entrepot", appauthor=False)
    assert str(site_dir(around)) == platformdirs.site_config_dir("entrepot", appauthor=False)
