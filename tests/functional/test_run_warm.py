"""The second time nothing is fetched.

Pip and uv install thirty packages twice, from fresh processes with empty caches.
"""

from __future__ import annotations

import shutil

import pytest

import clients
from acceptance import FILES, METADATA, PAGES, Lab, expected
from entrepot.testing import profiles
from entrepot.testing.origin import Origin

COUNT = 30
pytestmark = pytest.mark.slow


def make_origin(scheme: str, profile) -> Origin:
    """Index and files on two addresses; over https under two names."""
    if scheme == "http":
        return Origin(files_host="127.0.0.2", profile=profile)
    return Origin(
        files_host="127.0.0.2",
        tls=True,
        name="index.test",
        files_name="files.test",
        profile=profile,
    )


def install_twice(tmp_path, tool, origin, count=COUNT):
    """The second run's, with the origin's log of it alone."""
    lab = Lab(tmp_path, (origin,))
    names = origin.synth(count)
    first = lab.install(tool, names).ok()
    assert first.installed() == expected(count)
    assert origin.count(FILES) == count
    origin.reset()
    second = lab.install(tool, names).ok()
    assert second.installed() == expected(count)
    return lab, second


@pytest.mark.parametrize(
    ("tool", "scheme"),
    [
        ("20.3.4", "http"),
        ("23.2.1", "https"),
        ("24.3.1", "http"),
        ("25.3", "https"),
        ("26.3", "https"),
        ("uv", "http"),
        ("uv", "https"),
    ],
)
def test_the_second_time_no_file_and_no_metadata_is_fetched_and_expired_pages_cost_a_304_each(
    tmp_path, tool, scheme
):
    with make_origin(scheme, profiles.index_like) as origin:
        origin.index_max_age = 0
        _, second = install_twice(tmp_path, tool, origin)
        assert origin.count(FILES) == 0
        assert origin.count(METADATA) == 0
        assert {seen.status for seen in origin.log} == {304}
        assert origin.count(PAGES) == len(origin.log) == COUNT
        assert origin.bytes_sent() == 0
    assert (
        second.report["misses"] == second.report["errors"] == second.report["bytes_downloaded"] == 0
    )
    assert second.report["revalidated"] == COUNT
    assert second.report["uncached_hosts"] == {}


@pytest.mark.parametrize(
    ("tool", "scheme"), [("23.2.1", "http"), ("26.3", "https"), ("uv", "https")]
)
def test_from_an_upstream_without_caching_fields_no_file_and_no_metadata_is_fetched_twice(
    tmp_path, tool, scheme
):
    with make_origin(scheme, profiles.bare) as origin:
        install_twice(tmp_path, tool, origin)
        assert origin.count(FILES) == 0
        assert origin.count(METADATA) == 0
        assert origin.count(PAGES) == len(origin.log) <= COUNT


@pytest.mark.parametrize("tool", ["26.3", "uv"])
def test_a_page_that_is_fresh_costs_no_request(tmp_path, tool):
    with make_origin("http", profiles.index_like) as origin:
        origin.index_max_age = 600
        _, second = install_twice(tmp_path, tool, origin, 3)
        assert origin.log == []
    assert second.report["hits"] == second.report["requests"] > 0


@pytest.mark.parametrize("tool", ["25.3", "uv"])
def test_after_the_catalogue_was_deleted_files_and_metadata_are_still_served_from_the_store(
    tmp_path, tool
):
    with make_origin("https", profiles.index_like) as origin:
        origin.index_max_age = 0
        lab = Lab(tmp_path, (origin,))
        names = origin.synth(6)
        lab.install(tool, names).ok()
        for path in lab.store.glob("catalogue*"):
            path.unlink()
        origin.reset()
        second = lab.install(tool, names).ok()
        assert second.installed() == expected(6)
        assert origin.count(FILES) == origin.count(METADATA) == 0
        assert {seen.status for seen in origin.log} == {304}
        clean = clients.run(
            [*lab.words(())[:3], "verify", "--tool", "entrepot"], lab.environment(lab.fresh())
        )
    assert clean.returncode == 0, clean.stdout + clean.stderr


def test_what_one_tool_has_fetched_another_need_not_fetch(tmp_path):
    with make_origin("http", profiles.index_like) as origin:
        lab = Lab(tmp_path, (origin,))
        names = origin.synth(6)
        lab.install("26.3", names).ok()
        origin.reset()
        assert lab.install("uv", names).ok().installed() == expected(6)
        assert origin.count(FILES) == origin.count(METADATA) == 0


def test_bodies_that_vanished_are_fetched_again(tmp_path):
    with make_origin("http", profiles.index_like) as origin:
        lab = Lab(tmp_path, (origin,))
        names = origin.synth(3)
        lab.install("uv", names).ok()
        shutil.rmtree(lab.store / "bodies")
        origin.reset()
        assert lab.install("uv", names).ok().installed() == expected(3)
        assert origin.count(FILES) == 3


@pytest.mark.parametrize("ahead", ["true", "false"])
def test_pages_that_were_wanted_together_are_asked_for_again_together_unless_it_is_turned_off(
    tmp_path, ahead
):
    """pip up to 26.1 asks for every page again, one after the other.

    Nothing but asking ahead asks for two at once.
    """
    with make_origin("http", profiles.index_like) as origin:
        lab = Lab(tmp_path, (origin,), {"ENTREPOT_AHEAD": ahead})
        names = origin.synth(12)
        lab.install("23.2.1", names).ok()
        origin.reset()
        origin.latency = 0.1
        second = lab.install("23.2.1", names).ok()
        assert second.installed() == expected(12)
        assert {seen.status for seen in origin.log} == {304}
        assert len(origin.log) == 12
        at_once = origin.most_at_once(PAGES)
    assert at_once > 4 if ahead == "true" else at_once == 1
    assert second.report["revalidated"] == 12
    assert second.report["ahead"] == {
        "requests": 11 if ahead == "true" else 0,
        "unused": 0,
        "bytes_unused": 0,
    }


def test_what_pip_asks_for_next_is_on_its_way_already_the_first_time(tmp_path):
    with make_origin("https", profiles.index_like) as origin:
        lab = Lab(tmp_path, (origin,))
        names = origin.synth(12)
        origin.latency = 0.1
        first = lab.install("26.3", names).ok()
        assert first.installed() == expected(12)
        assert len(origin.log) == 36  # a page, metadata and a wheel each, as without asking ahead
        assert origin.most_at_once() > 1
    assert first.report["misses"] == first.report["requests"] == 36
    assert first.report["bytes_from_cache"] == 0
    assert first.report["ahead"]["requests"] >= 16
    assert first.report["ahead"]["unused"] == 0
