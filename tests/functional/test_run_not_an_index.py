"""A portal, or a mirror in the middle of its sync, before an index.

Nothing replaces what was seen.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import clients
from acceptance import Lab
from entrepot.testing.channel import Channel
from entrepot.testing.distributions import Content
from entrepot.testing.exchange import Request, Response
from entrepot.testing.origin import Origin
from running import Desk, Ran

LOGIN = b"<html>Please log in</html>"
FRESH = {"Cache-Control": "max-age=1200", "ETag": '"portal"'}
OFFLINE = ("--offline",)
INDEXES = r"repodata[^/]*$"


def login(response: Response) -> Response:
    """A page to sign in."""
    return Response(200, {"Content-Type": "text/html", **FRESH}, Content([LOGIN]))


def nothing(response: Response) -> Response:
    """The right head, and no body."""
    return Response(200, {**response.headers, **FRESH}, Content(()))


def half(response: Response) -> Response:
    """The right head and half of the body."""
    whole = response.content.whole()
    return Response(200, {**response.headers, **FRESH}, Content([whole[: len(whole) // 2]]))


WRONG = [login, nothing, half]


def put_before(origin: Origin, match: str, wrong: Callable[[Response], Response]) -> None:
    """From now on this comes in place of all 200s for such paths, whatever is asked."""

    def instead(request: Request, response: Response) -> Response:
        if not re.search(match, request.path) or response.status not in {200, 304}:
            return response
        for condition in ("if-none-match", "if-modified-since"):
            request.headers.pop(condition, None)
        return wrong(origin._answer(request))

    origin.instead = instead


def rattle(desk: Desk, channel: Channel, options=()) -> Ran:
    for name in ("cache", "target"):
        shutil.rmtree(desk.project / name, ignore_errors=True)
    script = Path(__file__).resolve().parent.parent / "rattling.py"
    words = [*clients.rattler(), script, channel.url, "cache", "target", "one"]
    return desk.run(*words, options=("--host", "channel.test", *options))


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("forms", ["json", "json zst shards"])
def test_a_channel_serves_offline_and_again_after_answers_that_were_no_index(
    tmp_path, forms, wrong
):
    with Origin(host="127.0.0.2", tls=True, name="channel.test") as origin:
        origin.index_max_age = 0
        desk, channel = (
            Desk.under(tmp_path / "desk", origin),
            Channel(origin, forms=frozenset(forms.split())),
        )
        channel.add("one")
        channel.publish()
        for options in ((), (), OFFLINE):
            assert (ran := rattle(desk, channel, options)).status == 0, ran.said
        put_before(origin, INDEXES, wrong)
        ran = rattle(desk, channel)
        assert ran.status == 1, ran.said
        assert re.search(
            r"https://channel.test/conda/test/\S*repodata\S* answered with", ran.last_line
        ), ran.said
        assert ran.last_line.endswith(" instead of an index; the last good one is kept"), ran.said
        assert (ran := rattle(desk, channel, OFFLINE)).status == 0, ran.said
        origin.instead = Origin(host="127.0.0.2").instead
        assert (ran := rattle(desk, channel)).status == 0, ran.said
        origin.stop()
        assert (ran := rattle(desk, channel)).status == 0, ran.said


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("tool", ["26.3", "uv"])
def test_an_index_serves_offline_and_again_after_answers_that_were_no_page(tmp_path, tool, wrong):
    with Origin(tls=True, name="index.test") as origin:
        origin.index_max_age = 0
        lab, names = Lab(tmp_path, (origin,)), origin.synth(3)
        lab.install(tool, names).ok()
        put_before(origin, "^/simple/", wrong)
        ran = lab.install(tool, names)
        assert ran.status != 0, ran.said
        assert re.search(r"https://index.test/simple/synth-0000/.* answered with", ran.last_line), (
            ran.said
        )
        assert ran.last_line.endswith(" instead of an index; the last good one is kept"), ran.said
        lab.install(tool, names, options=OFFLINE).ok()
        origin.instead = Origin().instead
        lab.install(tool, names).ok()
        origin.stop()
        lab.install(tool, names).ok()


@pytest.mark.parametrize(
    "path",
    ["simple/demo/", "conda/test/noarch/repodata.json", "conda/test/noarch/repodata.json.zst"],
)
@pytest.mark.parametrize("wrong", WRONG)
def test_curl_is_handed_what_came_and_then_the_good_one(tmp_path, path, wrong):
    with Origin(tls=True, name="index.test") as origin:
        origin.index_max_age = 0
        desk, channel = Desk.under(tmp_path / "desk", origin), Channel(origin)
        origin.add_project("demo")
        channel.synth(3)

        def fetch(*options: str) -> bytes:
            url = f"{origin.base}/{path}"
            ran = desk.run(
                "curl", "-sSf", url, "-o", "got", options=("--host", "index.test", *options)
            )
            assert ran.status == 0, ran.said
            return (desk.project / "got").read_bytes() if (desk.project / "got").exists() else b""

        good = fetch()
        put_before(origin, path, wrong)
        (desk.project / "got").unlink()
        assert fetch() == wrong(Response(200, {}, Content([good]))).content.whole()
        assert fetch("--offline") == good
        origin.instead = Origin().instead
        origin.log.clear()
        assert fetch() == good
        assert [seen.status for seen in origin.seen(path)] == [304]
