"""A wheel's metadata taken out of the stored wheel.

When it is right, and what a hostile wheel may cost.
"""

import hashlib
import io
import json
import struct
import zipfile

import pytest

from entrepot.serving import reuse
from entrepot.serving.reuse import read_metadata
from entrepot.testing.memory_store import MemoryBlob
from entrepot.testing.upstream import Script
from service_world import FILE, INDEX, JSON_TYPE, World, get, run

METADATA = b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n"
SIBLING = f"{FILE}.metadata"


def wheel(members=None, compression=zipfile.ZIP_DEFLATED, comment=b""):
    """A wheel's bytes."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", compression) as archive:
        archive.comment = comment
        for name, data in (
            members or {"demo/__init__.py": b"", "demo-1.0.dist-info/METADATA": METADATA}
        ).items():
            archive.writestr(name, data)
    return raw.getvalue()


def world_with(body, told=METADATA):
    """An upstream whose page names the wheel and the digest of its metadata.

    The sibling itself is not there.
    """
    world = World()
    sha = hashlib.sha256(body).hexdigest()
    told = {"sha256": hashlib.sha256(told).hexdigest()}
    file = {
        "filename": FILE.rpartition("/")[2],
        "url": FILE,
        "hashes": {"sha256": sha},
        "size": len(body),
        "core-metadata": told,
    }
    index = json.dumps({"meta": {"api-version": "1.1"}, "name": "demo", "files": [file]}).encode()
    world.upstream.route(INDEX, Script(200, {"Content-Type": JSON_TYPE}, index))
    world.upstream.route(FILE, Script(200, {}, body))
    world.upstream.route(SIBLING, Script(404))
    return world


def ask(world, *urls, **rules):
    """The answers of one process."""

    async def go():
        service = world.service(**rules)
        answers = [await get(service, url) for url in urls]
        await service.aclose()
        return answers

    return run(go())


def test_metadata_is_made_from_the_stored_wheel_without_a_request():
    world = world_with(wheel())
    [*_, (status, content, _)] = ask(world, INDEX, FILE, SIBLING)
    assert (status, content) == (200, METADATA)
    assert world.upstream.count(SIBLING) == 0


def test_it_is_made_offline_in_a_later_process_and_kept_as_proven():
    world = world_with(wheel())
    ask(world, INDEX, FILE)
    [_, (status, content, _)] = ask(world, INDEX, SIBLING, offline=True)
    assert (status, content) == (200, METADATA)
    [head] = run(world.entries.load(SIBLING))
    assert [digest.value for digest in head.proven] == [hashlib.sha256(METADATA).hexdigest()]
    assert (head.project, head.version, head.kind) == ("demo", "1.0", "metadata")


def test_metadata_whose_digest_is_not_the_one_that_the_page_names_is_asked_of_upstream():
    world = world_with(wheel(), told=b"other bytes")
    [*_, (status, _, _)] = ask(world, INDEX, FILE, SIBLING)
    assert status == 404
    assert world.upstream.count(SIBLING) == 1


def test_without_a_digest_of_the_metadata_nothing_is_made():
    world = World()
    body = wheel()
    world.add_project(body)
    world.upstream.route(SIBLING, Script(404))
    [*_, (status, _, _)] = ask(world, INDEX, FILE, SIBLING)
    assert status == 404


def test_a_shared_cache_makes_nothing_of_a_wheel_that_came_for_somebodys_credentials():
    world = world_with(wheel())

    async def go():
        service = world.service()
        await get(service, INDEX)
        await get(service, FILE, authorization="Basic eDp5")
        await service.aclose()
        service = world.service(shared=True)
        answer = await get(service, SIBLING)
        await service.aclose()
        return answer

    assert run(go())[0] == 404


def test_a_comment_at_the_end_is_no_obstacle():
    assert read_metadata(MemoryBlob(wheel(comment=b"a comment"))) == METADATA


def test_a_comment_that_looks_like_an_end_record_is_not_believed_differently_from_the_zip_reader():
    assert (
        read_metadata(
            MemoryBlob(wheel(comment=b"PK\x05\x06 in a comment that is as long as a record"))
        )
        is None
    )


def lying_directory(size):
    """A wheel whose end record claims a directory of this size."""
    raw = bytearray(wheel())
    struct.pack_into("<L", raw, len(raw) - 22 + 12, size)
    return bytes(raw)


def with_zip64_locator():
    """A wheel with zip64's records before the end record: they may name any size."""
    raw = wheel()
    record = b"PK\x06\x06" + struct.pack("<QHHLLQQQQ", 44, 45, 45, 0, 0, 2, 2, 1 << 40, 0)
    locator = b"PK\x06\x07" + struct.pack("<LQL", 0, len(raw) - 22, 1)
    return raw[:-22] + record + locator + raw[-22:]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"PK\x05\x06",
        b"no zip at all" * 100,
        wheel()[:-30],
        wheel({"demo/__init__.py": b""}),
        wheel({"a-1.dist-info/METADATA": METADATA, "b-1.dist-info/METADATA": METADATA}),
        wheel({"x/demo-1.0.dist-info/METADATA": METADATA}),
        lying_directory(0xFFFFFFFF),
        lying_directory(reuse.MAX_DIRECTORY + 1),
        lying_directory(7),
        with_zip64_locator(),
    ],
    ids=[
        "empty",
        "end alone",
        "no zip",
        "cut",
        "none in it",
        "two",
        "deeper",
        "huge directory",
        "large directory",
        "small",
        "zip64",
    ],
)
def test_a_wheel_that_is_none_gives_no_metadata(body):
    assert read_metadata(MemoryBlob(body)) is None


def test_a_flipped_byte_gives_no_metadata():
    raw = bytearray(wheel(compression=zipfile.ZIP_STORED))
    raw[raw.index(METADATA) + 3] ^= 1
    assert read_metadata(MemoryBlob(bytes(raw))) is None


def test_metadata_that_swells_beyond_the_bound_is_left_alone(monkeypatch):
    monkeypatch.setattr(reuse, "MAX_METADATA", 1 << 16)
    assert read_metadata(
        MemoryBlob(wheel({"demo-1.0.dist-info/METADATA": b"x" * (1 << 16)}))
    ) == b"x" * (1 << 16)
    swelling = wheel({"demo-1.0.dist-info/METADATA": b"x" * (1 << 22)})
    assert len(swelling) < 1 << 16
    assert read_metadata(MemoryBlob(swelling)) is None
    real = struct.pack("<L", 1 << 22)
    assert read_metadata(MemoryBlob(swelling.replace(real, struct.pack("<L", 100)))) is None, (
        "nor when it lies about its size"
    )
