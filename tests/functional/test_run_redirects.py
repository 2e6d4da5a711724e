"""Redirects that are followed inside: the file comes whole, and no secret leaves its origin."""

from __future__ import annotations

import hashlib

import pytest

from entrepot.testing.origin import Origin
from running import Desk

FIELDS = (
    "Authorization: Basic bWU6UFc=",
    "Cookie: sid=1",
    "X-JFrog-Art-Api: key",
    "Private-Token: key",
)
NAMES = {field.partition(":")[0].lower() for field in FIELDS}


@pytest.fixture(scope="module")
def origins():
    """An index over https; the same name over http; the same name at another port."""
    with (
        Origin(tls=True, name="index.test", names=["127.0.0.1"]) as index,
        Origin(host="127.0.0.2", name="index.test") as plain,
        Origin(host="127.0.0.1") as port,
    ):
        yield {"index": index, "plain": plain, "port": port}


@pytest.mark.parametrize("target", ["index", "plain", "port"])
def test_secrets_stay_with_scheme_host_and_port_also_when_the_transfer_is_resumed(
    tmp_path, origins, target
):
    index, elsewhere = origins["index"], origins[target]
    desk = Desk.under(tmp_path / "desk", index, origins["plain"])
    file = index.add_project(f"demo-{target}", size=400_000)[0]
    index.add_redirect(file.path, elsewhere.add(f"/{target}.whl", file.content))
    elsewhere.fault(f"/{target}.whl", "truncate", at=0.5)
    fields = [word for field in FIELDS for word in ("-H", field)]
    page, wheel = f"{index.index_url}demo-{target}/", index.url(file)
    ran = desk.run(
        "curl",
        "-sS",
        *fields,
        page,
        "-o",
        "page",
        wheel,
        "-o",
        "wheel",
        options=("--host", "index.test"),
    )
    assert ran.status == 0, ran.said
    assert hashlib.sha256((desk.project / "wheel").read_bytes()).hexdigest() == file.content.sha256
    asked = index.seen(file.path)
    assert asked, ran.said
    assert all(seen.headers.keys() >= NAMES for seen in asked)
    came = elsewhere.seen(f"/{target}.whl")
    assert len(came) == 2, "cut once and resumed"
    assert came[1].ranged
    sent = [seen.headers.keys() & NAMES for seen in came]
    assert sent == [NAMES if target == "index" else set()] * 2
