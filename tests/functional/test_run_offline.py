"""Offline, in a new process, with every page expired and the origin gone.

What was seen before installs again.
"""

from __future__ import annotations

import pytest

from acceptance import METADATA, Lab, expected
from entrepot.testing import profiles
from entrepot.testing.origin import Origin

COUNT = 30
OFFLINE = ("--offline",)
LATENCY_S = 0.05
"""A near mirror's; without any, an origin in the same machine is as quick as the store."""
pytestmark = pytest.mark.slow


@pytest.fixture
def origin():
    """Over https, files on a second address, every page expired as soon as it is sent."""
    with Origin(
        files_host="127.0.0.2", tls=True, name="index.test", files_name="files.test"
    ) as running:
        running.index_max_age = 0
        yield running


@pytest.mark.parametrize("tool", ["20.3.4", "26.3", "uv"])
def test_offline_with_expired_pages_and_the_origin_gone_the_same_set_installs_in_less_time_than_cold(
    tmp_path, origin, tool
):
    lab, names = Lab(tmp_path, (origin,)), origin.synth(COUNT)
    lab.run(
        "true"
        # What starting costs the first time (compiled modules, a new store) is no part of the
        # comparison
    )
    origin.latency = LATENCY_S
    cold = lab.install(tool, names).ok()
    origin.stop()
    offline = lab.install(tool, names, options=OFFLINE).ok()
    assert offline.installed() == cold.installed() == expected(COUNT)
    assert (
        offline.report["bytes_downloaded"]
        == offline.report["misses"]
        == offline.report["errors"]
        == 0
    )
    assert offline.report["stale"] == COUNT, "the pages"
    # The quickest of three: one that others took the machine away from says nothing.
    seconds = min(
        offline.seconds, *(lab.install(tool, names, options=OFFLINE).ok().seconds for _ in range(2))
    )
    assert seconds < cold.seconds, f"cold {cold.seconds:.2f} s, offline {seconds:.2f} s"


@pytest.mark.parametrize("tool", ["23.2.1", "25.3", "uv"])
def test_offline_a_second_index_whose_404s_were_seen_does_not_disturb(tmp_path, origin, tool):
    with Origin(host="127.0.0.3", tls=True, authority=origin.authority, name="more.test") as more:
        more.index_max_age = 0
        lab, names = Lab(tmp_path, (origin, more)), origin.synth(6)
        extra = more.add_project("extra")[0].filename
        arguments = (*names, "extra"), "--extra-index-url", more.index_url
        lab.install(tool, *arguments).ok()
        assert more.count(status=404) > 0
        more.stop()
    origin.stop()
    offline = lab.install(tool, *arguments, options=OFFLINE).ok()
    assert offline.installed() == expected(6) | {"extra-1.0"}
    assert {404} <= {
        entry["status"] for entry in offline.report["entries"] if "more.test" in entry["url"]
    }
    assert offline.outcomes(extra) == {"hit"}


@pytest.mark.parametrize(
    "profile",
    [profiles.no_store, profiles.must_revalidate, profiles.bare],
    ids=lambda each: each.__name__,
)
@pytest.mark.parametrize("tool", ["24.3.1", "uv"])
def test_offline_pages_that_came_with_no_store_or_must_revalidate_serve_as_well(
    tmp_path, origin, tool, profile
):
    origin.profile = profile
    lab, names = Lab(tmp_path, (origin,)), origin.synth(3)
    lab.install(tool, names).ok()
    origin.stop()
    assert lab.install(tool, names, options=OFFLINE).ok().installed() == expected(3)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("26.3", "uv"),
        ("uv", "26.3"),
        ("23.2.1", "uv"),
        ("uv", "23.2.1"),
        ("20.3.4", "uv"),
        ("20.3.4", "26.3"),
        ("uv", "20.3.4"),
    ],
)
def test_offline_another_tool_than_the_one_that_filled_the_store_installs_the_same_set(
    tmp_path, origin, first, then
):
    lab, names = Lab(tmp_path, (origin,)), origin.synth(6)
    lab.install(first, names).ok()
    origin.stop()
    assert lab.install(then, names, options=OFFLINE).ok().installed() == expected(6)


def test_a_metadata_file_that_nobody_asked_for_is_made_from_the_stored_wheel(tmp_path, origin):
    """pip 20.3.4 reads metadata out of whole wheels."""
    lab, names = Lab(tmp_path, (origin,)), origin.synth(6)
    lab.install("20.3.4", names).ok()
    assert origin.count(METADATA) == 0
    made = lab.install("26.3", names).ok()
    assert origin.count(METADATA) == 0
    assert made.outcomes(".metadata") == {"hit"}
    kept = [head for head in lab.heads() if head.kind == "metadata"]
    assert len(kept) == 6
    assert all(head.proven for head in kept)


@pytest.mark.parametrize("tool", ["20.3.4", "23.2.1", "24.3.1", "25.3", "26.3", "uv"])
def test_offline_a_package_never_seen_fails_within_5_s_and_the_last_line_names_it_and_says_offline(
    tmp_path, origin, tool
):
    lab, names = Lab(tmp_path, (origin,)), origin.synth(3)
    lab.install("uv", names).ok()
    origin.stop()
    for _ in range(3):  # a pip alone takes seconds where other tests have the processors
        missing = lab.install(tool, ["no-such-thing"], options=OFFLINE)
        if missing.seconds < 5:
            break
    assert missing.status != 0
    assert missing.seconds < 5, f"{missing.seconds:.1f} s"
    assert missing.last_line.startswith("entrepot: ")
    assert "no-such-thing" in missing.last_line
    assert "offline" in missing.last_line
