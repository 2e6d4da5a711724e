"""Pages with credentials in them are served, learned from and not stored."""

import gzip
import hashlib

import pytest

from entrepot.serving.pages import STEP, tells_secrets
from entrepot.testing.upstream import Script
from service_world import World, get, run

PAGE = "https://index.test/t/tk-0123456789/simple/demo/"
BODY = b"wheel" * 1000
HTML = {"Content-Type": "text/html"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b'<a href="/t/tk-0123456789/demo-1.0.tar.gz">', True),
        (b'<a href="https://me:pw@files.test/demo-1.0.tar.gz">', True),
        (b'<a href="/demo-1.0.tar.gz?x=1&amp;X-Amz-Signature=ab">', True),
        (b'{"url": "/demo-1.0.tar.gz?v=1\\u0026sig=ab"}', True),
        (b'<a href="/t/tox/tox-1.0.tar.gz">', False),
        (b'<a href="../../packages/demo-1.0.tar.gz#sha256=00">', False),
        (b'<a href="/demo-1.0.tar.gz?sig=">', False),
        (b'<a href="https://files.test/@scope/demo-1.0.tar.gz">', False),
        (b'<a href="https://files.test/demo-1.0.tar.gz?signed=no">', False),
    ],
)
@pytest.mark.parametrize("coding", [None, "gzip"])
def test_a_page_tells_secrets_when_its_links_carry_them(text, told, coding):
    assert tells_secrets(PAGE, gzip.compress(text) if coding else text, coding) is told


def test_a_page_that_cannot_be_decoded_tells_none():
    assert not tells_secrets(PAGE, b"?sig=ab", "br")


@pytest.mark.parametrize("size", [0, 100_000], ids=["small", "large"])
def test_a_page_with_signed_links_reaches_the_client_whole_teaches_the_digests_and_is_not_stored(
    size,
):
    file = "https://index.test/get/demo-1.0.tar.gz?X-Amz-Signature=abc"
    link = (
        f'<a href="{file}#sha256={hashlib.sha256(BODY).hexdigest()}">demo-1.0.tar.gz</a>'.encode()
    )
    page = b"<!DOCTYPE html><title>Links for demo</title>" + b" " * size + link
    world = World()
    world.upstream.route(
        PAGE, Script(200, {**HTML, "Cache-Control": "max-age=600", "ETag": '"1"'}, page)
    )
    world.upstream.route(file, Script(200, {}, BODY))

    async def go():
        service = world.service()
        answers = [await get(service, url) for url in (PAGE, PAGE, file, file)]
        await service.aclose()
        return answers, await world.entries.load(PAGE), await world.entries.load(file)

    answers, pages, files = run(go())
    assert [(status, content) for status, content, _ in answers] == [(200, page)] * 2 + [
        (200, BODY)
    ] * 2
    assert pages == []
    assert files[0].proven
    assert world.upstream.count(PAGE) == 2
    assert world.upstream.count(file) == 1
    assert world.stats.warnings == [
        "pages of index.test hold tokens or signed links, so they are not kept"
    ]
    stored = b"".join(data for data, _ in world.store._objects.values())
    assert b"abc" not in stored
    assert b"tk-0123456789" not in stored


@pytest.mark.parametrize("at", [STEP - 20, STEP - 1, STEP, STEP + 1, 3 * STEP - 8])
def test_a_secret_is_found_wherever_in_a_large_page_it_stands(at):
    link = b'<a href="https://me:secret@files.test/x-1.0.tar.gz">'
    text = b" " * at + link + b" " * STEP
    assert tells_secrets(PAGE, text, None)
    assert not tells_secrets(PAGE, text.replace(b"me:secret@", b""), None)
