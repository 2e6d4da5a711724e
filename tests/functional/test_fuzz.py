"""Generated inputs at the door's socket, some thousand of them.

A million by `bench/fuzz.py socket`.
"""

from __future__ import annotations

from socket_fuzz import NEVER, OPENED, fuzz, inside


def test_whatever_comes_at_the_socket_nothing_breaks_and_nobody_is_asked_who_was_not_named(
    tmp_path,
):
    found = fuzz(tmp_path, 2500, seed=4, seconds=20)
    assert found.wrong == []
    assert {"200", "400", "407"} <= set(found.statuses)


def test_the_watch_over_paths_knows_inside_from_outside(tmp_path):
    root = str(tmp_path)
    assert inside(f"{root}/heads/ab", root)
    for path in (
        f"{root}x/heads",
        f"{root}/../x",
        f"{root}/heads/../../x",
        "/etc/passwd",
        "heads/ab",
    ):
        assert not inside(path, root)
    assert not any(NEVER in name for name in OPENED)
