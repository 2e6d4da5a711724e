"""Every tool and every tool's settings keep the contract of ``ports/tool.py``."""

from dataclasses import replace

import pytest

from entrepot.caches.own import OwnCache
from entrepot.config.file import OwnSettings
from entrepot.ports.tool import Layer, Surroundings
from entrepot.store import layout
from entrepot.tools.registry import TOOL_NAMES, tool
from entries import FakeSettings, FakeTool, entry
from own_store import World
from pip_lab import wheel_bytes


@pytest.fixture
def around(tmp_path):
    return Surroundings({"PATH": "", "PIP_CACHE_DIR": str(tmp_path / "pip")}, tmp_path, tmp_path)


def fake(tmp_path):
    entries = [replace(entry("demo", f"{n}.0"), place=tmp_path / "pip") for n in range(2)]
    return FakeTool("pip", entries, path=tmp_path / "pip")


def own(tmp_path):
    world = World(tmp_path / "store")
    for name in ("demo", "other"):
        world.add(f"https://files.test/{name}-1.0-py3-none-any.whl", name.encode(), project=name)
    return OwnCache(
        world.root,
        layers=(Layer("default", "default", str(world.root), wins=True),),
        directory=layout,
        open_store=lambda: world.opened,
        settings=FakeSettings(),
        now=lambda: world.now,
    )


def pip(tmp_path):
    for number, name in enumerate(("demo", "other")):
        folder = tmp_path / f"pip/wheels/ab/cd/ef/{number:060x}"
        folder.mkdir(parents=True)
        filename, data = wheel_bytes(name, "1.0")
        (folder / filename).write_bytes(data)
    return tool("pip")


FILLED = {"fake": fake, "entrepot": own, "pip": pip}


@pytest.fixture(params=FILLED)
def filled(request, tmp_path, around):
    """A tool with two entries, and the place that they lie in."""
    made = FILLED[request.param](tmp_path)
    return made, next(iter(made.places(around)))


@pytest.mark.parametrize("name", TOOL_NAMES)
def test_a_tool_without_a_cache_has_places_and_nothing_in_them(name, around, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    for place in tool(name).places(around):
        assert (place.tool, place.exists) == (name, False)
        assert list(tool(name).scan(place, around)) == []
    assert sorted(tmp_path.rglob("*")) == before


def test_entries_say_whose_they_are_and_have_keys_of_their_own(filled, around):
    made, place = filled
    entries = list(made.scan(place, around))
    assert {(each.tool, each.place) for each in entries} == {(made.name, place.path)}
    assert len({each.key for each in entries}) == len(entries) == 2


def test_what_is_removed_is_gone_and_the_rest_is_there(filled, around):
    made, place = filled
    one, other = made.scan(place, around)
    removed = made.remove([one], around, force=True)
    assert (removed.entries, removed.kept) == ((one,), ())
    assert removed.freed > 0
    assert [each.key for each in made.scan(place, around)] == [other.key]


def test_a_sound_cache_has_nothing_to_find(filled, around):
    made, place = filled
    assert list(made.verify(place, around)) == []


SETTINGS = {
    "fake": (lambda _: FakeSettings(), "global.timeout", "5"),
    "entrepot": (OwnSettings, "offline", "true"),
    "pip": (lambda around: tool("pip").settings(around), "global.timeout", "5"),
    "conda": (lambda around: tool("conda").settings(around), "ssl_verify", "false"),
    "uv": (lambda around: tool("uv").settings(around), "offline", "true"),
}


@pytest.mark.parametrize(("make", "key", "value"), SETTINGS.values(), ids=SETTINGS)
def test_a_setting_that_was_set_is_in_force_until_it_is_unset(make, key, value, around):
    settings = make(around)
    before = settings.get(key)
    change = settings.set(key, value)
    assert (change.key, change.after) == (key, value)
    assert change.path == settings.file()
    assert settings.get(key) == value
    assert (key, value) in [(name, said) for name, said, _ in settings.items()]
    assert settings.unset(key).before == value
    assert settings.get(key) == before
