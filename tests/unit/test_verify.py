"""Checking the store: each kind of damage is found, and nothing else."""

import json

import pytest

from entrepot.caches.verify import verify_store
from entrepot.digests import sha256_of
from entrepot.store.directory import DirectoryStore
from entrepot.stored import body_key, cache_key
from own_store import World


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path / "store")
    yield world
    world.close()


def problems(world, **options):
    return [(f.problem, f.repaired) for f in verify_store(world.opened, **options)]


def damage(world, kind):
    """Put one kind of damage into a store that also holds something sound.

    The keys that must go with it.
    """
    key = world.add("https://files.test/bad-1.0-py3-none-any.whl", b"good bytes")
    body = world.body(b"good bytes")
    if kind == "digest-mismatch":
        world.path(body).write_bytes(b"good bytez")
    elif kind == "wrong-size":
        world.add("https://files.test/bad-1.0-py3-none-any.whl", b"good bytes", size=3)
    elif kind == "missing-body":
        world.taken(body)
        return {key}
    elif kind == "bad-head":
        world.path(key).write_bytes(world.taken(key)[:-20])
    elif kind == "orphan-body":
        world.taken(key)
        world.catalogue.forget([key])
        return {body}
    elif kind == "credential":
        world.add("https://u:secret@files.test/x", b"good bytes")
        return {cache_key("https://files.test/x") + "/0"}
    return {key, body}


KINDS = ("digest-mismatch", "wrong-size", "missing-body", "bad-head", "orphan-body", "credential")


def test_a_sound_store_has_no_findings_and_is_not_touched(world):
    world.add()
    world.add("https://mirror.test/demo-1.0-py3-none-any.whl")
    world.add("https://index.test/simple/none/", None, kind="page", status=404)
    before = world.objects()
    assert problems(world, repair=True) == []
    assert world.objects() == before
    assert world.store.deleted == []


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_named_and_left_alone_without_repair(world, kind):
    world.add()
    damage(world, kind)
    before = world.objects()
    found = [problem for problem, _ in problems(world)]
    assert kind in found
    assert set(found) <= {kind, "orphan-body"}
    assert world.objects() == before


@pytest.mark.parametrize("kind", KINDS)
def test_repair_removes_what_is_damaged_and_nothing_else(world, kind):
    sound = {world.add(), world.body(b"a wheel")}
    before = set(world.objects())
    goes = damage(world, kind)
    stays = set(world.objects()) - goes
    assert all(repaired == "removed" for _, repaired in problems(world, repair=True))
    assert set(world.objects()) == stays
    assert sound <= stays
    assert before <= stays
    assert problems(world) == []
    assert world.known() <= stays


def test_the_head_is_removed_before_its_damaged_body(world):
    damage(world, "digest-mismatch")
    problems(world, repair=True)
    assert [key.partition("/")[0] for key in world.store.deleted] == ["heads", "bodies"]


def test_all_heads_of_a_damaged_body_go_with_it(world):
    world.add("https://a.test/x.whl", b"shared")
    world.add("https://b.test/x.whl", b"shared")
    world.path(world.body(b"shared")).write_bytes(b"SHARED")
    assert problems(world, repair=True) == [("digest-mismatch", "removed")]
    assert world.objects() == {}


def test_a_head_of_a_later_version_and_its_body_are_left_alone(world):
    key = world.add()
    head = json.loads(world.path(key).read_bytes())
    world.path(key).write_text(json.dumps({**head, "format": 2, "new": "things"}))
    before = world.objects()
    assert problems(world, repair=True) == [("later-head", "")]
    assert world.objects() == before


def test_a_body_whose_head_comes_while_the_store_is_checked_is_no_orphan(world):
    """Between the listing of heads and the look at the body another process may finish its put."""
    key = world.add()
    raw = world.taken(key)
    listed = world.store.list

    def late(prefix):
        yield from list(listed(prefix))
        if prefix == "heads":
            world.path(key).write_bytes(raw)

    world.store.list = late
    assert problems(world, repair=True) == []
    assert world.body(b"a wheel") in world.objects()


def test_an_orphan_that_gets_its_head_before_the_lock_is_had_stays(world):
    key = world.add()
    raw = world.taken(key)
    world.store.at_hold = lambda _: world.path(key).write_bytes(raw)
    problems(world, repair=True)
    assert world.body(b"a wheel") in world.objects()


def test_what_is_locked_is_named_and_not_called_repaired(world):
    damage(world, "digest-mismatch")
    with DirectoryStore(world.root).hold(world.body(b"good bytes")):
        (finding,) = verify_store(world.opened, repair=True)
    assert finding.repaired == ""
    assert "locked" in finding.text


@pytest.mark.parametrize(
    "leak",
    [
        {"headers": [("Set-Cookie", "session=abc")]},
        {"headers": [("Authorization", "Basic abc")]},
        {"headers": [("Location", "https://cdn.test/f?X-Amz-Signature=abc")]},
        {"url": "https://files.test/t/tk-secret/noarch/x.conda"},
        {"url": "https://files.test/x.whl?token=abc"},
        {"vary": [("authorization", "Basic abc")]},
    ],
    ids=[
        "cookie",
        "authorization",
        "signed location",
        "token in the path",
        "token in the query",
        "vary",
    ],
)
def test_a_credential_in_a_head_is_found_wherever_it_stands(world, leak):
    world.add(**leak)
    assert problems(world) == [("credential", "")]


@pytest.mark.parametrize(
    "fine",
    [
        {"headers": [("Set-Cookie", "session=abc")], "kind": "other"},
        {"headers": [("Location", "https://cdn.test/f?v=1"), ("Vary", "Authorization")]},
        {"url": "https://files.test/t/<TOKEN>/noarch/x.conda"},
        {"url": "https://files.test/x.whl?token=***"},
        {"vary": [("authorization", "sha256:" + "ab" * 32), ("cookie", None), ("accept", "a, b")]},
    ],
    ids=[
        "a cookie of what is no package",
        "plain location",
        "masked token",
        "masked query",
        "digest of a credential",
    ],
)
def test_what_is_masked_or_allowed_is_no_finding(world, fine):
    world.add(**fine)
    assert problems(world) == []


def test_a_file_with_a_strange_name_among_the_bodies_is_left_alone(world):
    world.path("bodies/sha256/zz").mkdir(parents=True)
    world.path("bodies/sha256/zz/thing").write_bytes(b"?")
    assert problems(world, repair=True) == [("strange-name", "")]
    assert "bodies/sha256/zz/thing" in world.objects()


def test_progress_counts_the_bytes_of_all_bodies(world):
    world.add(data=b"x" * 10)
    world.add("https://b.test/y.whl", b"y" * 30)
    seen = []
    list(verify_store(world.opened, progress=lambda *now: seen.append(now)))
    assert seen[0][0] == 0
    assert seen[-1] == (40, 40, "bytes")


def test_the_finding_says_which_file_it_is_and_where_it_lies(world):
    damage(world, "digest-mismatch")
    (finding,) = verify_store(world.opened)
    assert "bad-1.0-py3-none-any.whl" in finding.text
    assert finding.path == world.root / body_key(sha256_of(b"good bytes"))
    assert finding.entry is not None
    assert finding.entry.trust == "bad"


def test_files_that_are_no_heads_by_their_names_are_named_and_left_alone(world):
    """Also when one of them names a body, which then is no orphan."""
    key = world.add()
    later = world.root / "heads/ab/later"
    later.parent.mkdir(exist_ok=True)
    (later.parent / "notes.txt").write_bytes(b"work")
    later.write_bytes(world.taken(key))
    world.catalogue.forget([key])
    before = world.objects()
    assert problems(world, repair=True) == [("strange-name", ""), ("strange-name", "")]
    assert world.objects() == before
    world.path(world.body(b"a wheel")).write_bytes(b"a wheeL")
    assert ("digest-mismatch", "removed") in problems(world, repair=True)
    assert set(before) - set(world.objects()) == {world.body(b"a wheel")}
