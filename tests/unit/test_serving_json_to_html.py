"""An older client is served what a newer one has stored, when upstream cannot be asked and only then."""

import gzip

from entrepot.testing.upstream import Script
from service_world import INDEX, JSON_TYPE, World, get, page, run

BODY = b"wheel" * 100


def ask(world, *steps, **rules):
    async def go():
        service = world.service(**rules)
        answers = [await get(service, INDEX, accept=accept) for accept in steps]
        await service.aclose()
        return answers

    return run(go())


def stored(**headers):
    """A world in which a page was seen in JSON."""
    world = World()
    body = gzip.compress(page(BODY)) if headers else page(BODY)
    fields = {"Content-Type": JSON_TYPE, "Vary": "Accept", **headers}
    world.upstream.route(INDEX, Script(200, fields, body))
    ask(world, JSON_TYPE)
    return world


def test_offline_a_client_that_reads_html_alone_is_served_a_page_that_was_seen_in_json():
    for world in (stored(), stored(**{"Content-Encoding": "gzip"})):
        [(status, content, headers)] = ask(world, "text/html", offline=True)
        assert status == 200
        assert headers.get("content-type").startswith("text/html")
        assert b"data-" in content or b"#sha256=" in content
        assert world.tally.counts()["stale"] == 1


def test_when_upstream_fails_too():
    world = stored()
    world.upstream.gone = True
    [(status, content, _)] = ask(world, "text/html")
    assert status == 200
    assert b"#sha256=" in content


def test_while_upstream_answers_it_is_asked():
    world = stored()
    world.upstream.route(
        INDEX, Script(200, {"Content-Type": "text/html", "Vary": "Accept"}, b"<a>own</a>")
    )
    [(_, content, _)] = ask(world, "text/html")
    assert content == b"<a>own</a>"


def test_a_client_that_takes_neither_form_gets_504():
    [(status, _, _)] = ask(stored(), "application/xml", offline=True)
    assert status == 504
