"""Channels' indexes, read."""

import bz2
import gzip
import json

import msgpack
import pytest
import zstandard

from entrepot.channel.coding import content_codings
from entrepot.channel.forms import index_name, resolved, shard_digest
from entrepot.channel.repodata import LONGEST, read_repodata
from entrepot.channel.shards import base_of, read_shard, read_shard_index, relative
from entrepot.errors import InvalidRepodata
from entrepot.testing.channel import Channel

C = "https://channel.test/c/noarch/"
PACK = {
    "": lambda data: data,
    ".zst": zstandard.ZstdCompressor(3).compress,
    ".bz2": lambda data: bz2.compress(data[:50]) + bz2.compress(data[50:]),
}


@pytest.fixture
def channel():
    made = Channel(None)
    made.add("one", "1.0")
    made.add("one", "1.1", extension=".tar.bz2")
    made.add("two", "2!3.0", subdir="linux-64")
    return made


def repodata(channel, **more):
    return json.dumps(channel.repodata("noarch") | more).encode()


def read(data, name="repodata.json", step=10_000):
    return read_repodata([data[i : i + step] for i in range(0, len(data), step)], url=C + name)


def test_what_was_packed_for_the_transfer_is_unpacked_first(channel):
    data = gzip.compress(PACK[".zst"](repodata(channel)))
    found = read_repodata(
        [data[:9], data[9:]], url=f"{C}repodata.json.zst", codings=content_codings("GZIP, identity")
    )
    assert len(found.table) == 2
    for wrong, coding in ((data[:-1], "gzip"), (b"no", "gzip"), (data, "br")):
        with pytest.raises(InvalidRepodata):
            read_repodata([wrong], url=f"{C}repodata.json.zst", codings=[coding])


@pytest.mark.parametrize("coding", PACK)
@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_every_form_tells_the_digests_and_sizes_of_its_archives(channel, coding, step):
    found = read(PACK[coding](repodata(channel)), "repodata.json" + coding, step)
    for package in channel.packages[:2]:
        link = found.link(package.filename)
        assert link.url == C + package.filename
        assert {d.algorithm: d.value for d in link.digests} == {
            n: package.record[n] for n in ("sha256", "md5")
        }
        assert (link.size, link.project, link.version) == (
            package.content.size,
            "one",
            package.record["version"],
        )
        assert link.kind == "archive"
    assert len(found.table) == 2
    assert found.link(channel.packages[2].filename) is None
    assert found.hosts == {"channel.test:443"}
    assert not found.secret


BASES = {
    "pkgs": "https://channel.test/c/noarch/pkgs/",
    "../x/": "https://channel.test/c/x/",
    "https://other.test/y": "https://other.test/y/",
    "/z": "https://channel.test/z/",
    "": C,
    None: C,
    "ftp://other.test/": "",
    "https://[": "",
    7: "",
    "a b": "",
    "x?y": "",
}


@pytest.mark.parametrize("base", BASES)
def test_archives_lie_where_base_url_says(channel, base):
    found = read(repodata(channel, info={"base_url": base}))
    assert found.base == BASES[base]
    name = channel.packages[0].filename
    assert (found.link(name).url if found.base else found.link(name)) == (
        BASES[base] + name if BASES[base] else None
    )


def test_base_url_counts_wherever_it_stands(channel):
    data = b'{"packages":{"one-1.0-0.conda":{"size":3}},"info":{"base_url":"../x"}}'
    assert read(data).link("one-1.0-0.conda").url == "https://channel.test/c/x/one-1.0-0.conda"


@pytest.mark.parametrize(
    ("url", "base", "is_secret"),
    [
        (C, "https://me:pw@other.test/", True),
        (C, "https://other.test/t/tk-1/x", True),
        ("https://channel.test/t/tk-1/c/noarch/", "/t/tk-1/c/", True),
        ("https://channel.test/t/tk-1/c/noarch/", "../pkgs", False),
        (C, "https://other.test/x", False),
    ],
)
def test_a_base_url_with_a_credential_is_told(url, base, is_secret):
    data = json.dumps({"info": {"base_url": base}}).encode()
    assert read_repodata([data], url=f"{url}repodata.json").secret is is_secret


def test_records_of_the_third_revision_are_read():
    record = {"sha256": "ab" * 32}
    data = json.dumps(
        {"v3": {"whl": {"a": [1]}, "conda": {"a-1-0": record}, "tar.bz2": {"b-1-0": record}}}
    ).encode()
    found = read(data)
    assert [found.link(name) is not None for name in ("a-1-0.conda", "b-1-0.tar.bz2", "a")] == [
        True,
        True,
        False,
    ]


ODD = {"md5": "x", "sha256": ["a"], "size": True}


def test_what_cannot_be_understood_is_left_out():
    data = json.dumps(
        {
            "packages": {
                "a-1-0.conda": ODD,
                "../b-1-0.conda": {},
                "c-1-0.conda": 7,
                "d-1-0.conda": {"md5": "ab" * 16},
            }
        }
    )
    found = read(data.encode())
    assert [found.link(n) is None for n in ("../b-1-0.conda", "c-1-0.conda")] == [True, True]
    assert (found.link("a-1-0.conda").digests, found.link("a-1-0.conda").size) == ((), None)
    assert [d.algorithm for d in found.link("d-1-0.conda").digests] == ["md5"]


BROKEN = {
    "nothing": b"",
    "no object": b"[1]",
    "cut off": b'{"packages":{"a-1-0.conda":{"size":3}',
    "no JSON": b'{"packages":{"a-1-0.conda":nonsense}}',
    "no comma": b'{"packages":{} "info":{}}',
    "not UTF-8": b'{"\xff":1}',
    "a number as key": b"{7:1}",
    "nested": b'{"x":' + b"[" * 100_000,
    "a long value": b'{"removed":"' + b"x" * 3 * LONGEST,
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_no_repodata_is_invalid(data):
    with pytest.raises(InvalidRepodata):
        read(data)


@pytest.mark.parametrize("name", ["repodata.json.zst", "repodata.json.bz2"])
def test_damaged_or_cut_compression_is_invalid(channel, name):
    packed = PACK[name[-4:]](repodata(channel))
    for data in (packed[:-10], b"nonsense", packed[:20] + b"\xff" * 20 + packed[40:]):
        with pytest.raises(InvalidRepodata):
            read(data, name)


# Shards


def index(shards, **info):
    return PACK[".zst"](msgpack.packb({"version": 1, "info": info, "shards": shards}))


def test_an_index_names_shards_and_where_their_archives_lie():
    data = index(
        {"one": b"\xab" * 32, "two": b"short"},
        base_url="../pkgs",
        shards_base_url="./shards/",
        subdir="noarch",
    )
    found = read_shard_index([data], url=C + "repodata_shards.msgpack.zst")
    (link,) = found.links()
    assert link.url == f"{C}shards/{'ab' * 32}.msgpack.zst"
    assert shard_digest(link.url) == link.digests[0]
    assert base_of(link) == "https://channel.test/c/pkgs/"


def test_a_shard_tells_the_digests_of_its_archives(channel):
    package = channel.packages[0]
    record = package.record | {n: bytes.fromhex(package.record[n]) for n in ("md5", "sha256")}
    data = PACK[".zst"](
        msgpack.packb({"packages": {}, "packages.conda": {package.filename: record}, "removed": []})
    )
    (link,) = read_shard([data], base=C)
    assert link.url == C + package.filename
    assert {d.algorithm: d.value for d in link.digests} == {
        n: package.record[n] for n in ("sha256", "md5")
    }


def test_other_hosts_of_shards_and_archives_are_told():
    data = index({}, base_url="https://pkgs.test/x", shards_base_url="https://shards.test/")
    assert read_shard_index([data], url=C + "repodata_shards.msgpack.zst").hosts == {
        "pkgs.test:443",
        "shards.test:443",
    }


@pytest.mark.parametrize(
    ("directory", "other", "said"),
    [
        ("https://h.test/t/tk/c/noarch/", "https://h.test/t/tk/c/shards/", "../noarch/"),
        ("https://h.test/t/tk/c/", "https://h.test/t/tk/c/", "./"),
        ("https://h.test/t/tk/c/", "https://h.test/shards/", ""),
        ("https://h.test/t/tk/c/", "https://h.test/t/other/c/", ""),
        ("https://a.test/x/", "https://b.test/", "https://a.test/x/"),
        ("https://a.test/t/tk/", "https://b.test/", ""),
    ],
)
def test_a_directory_is_said_without_its_token(directory, other, said):
    assert relative(directory, other) == said


BOMBS = {
    "no map": msgpack.packb([1]),
    "no shards": msgpack.packb({"info": {}}),
    "empty": b"",
    "an array that claims to be huge": b"\x82\xa6shards\x80\xa4info" + b"\xdd\xff\xff\xff\xff",
    "a key that is no text": b"\x81\x01\x02",
    "nested": b"\x81\xa6shards\x81\xa1a" + b"\x91" * 100_000,
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_hostile_msgpack_is_invalid(data):
    for packed in (PACK[".zst"](data), data):
        with pytest.raises(InvalidRepodata):
            read_shard_index([packed], url=C + "repodata_shards.msgpack.zst")


def test_a_bomb_of_zstd_is_refused():
    compressor = zstandard.ZstdCompressor(3).compressobj()
    zeros = bytes(1 << 20)
    bomb = b"".join(compressor.compress(zeros) for _ in range(100)) + compressor.flush()
    assert len(bomb) < 1 << 20
    with pytest.raises(InvalidRepodata, match="more than"):
        read_shard([bomb], base=C)


def test_only_an_index_is_one():
    assert index_name("https://User:pw@Channel.test/c/noarch/repodata.json").directory == C
    assert index_name(f"{C}repodata.json?x=1") is None
    assert index_name(f"{C}one-1.0-0.conda") is None
    assert resolved(None, f"{C}repodata.json") == C
    assert f"{C}repodata.json.zst" in index_name(f"{C}current_repodata.json").siblings()
