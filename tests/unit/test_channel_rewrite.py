"""Channel indexes led through the cache: only addresses change."""

import json
import time

import msgpack
import pytest

from entrepot.channel.coding import unzstd, zstd
from entrepot.channel.rewrite import (
    rewrite_repodata,
    rewrite_repodata_zst,
    rewrite_shard_index,
    stand_in,
)
from entrepot.errors import FormatError, InvalidRepodata

URL = "https://channel.test/lab/noarch/repodata.json"
INDEX = "https://channel.test/lab/noarch/repodata_shards.msgpack.zst"
CACHE = "https://cache.test/-/"


def address(url: str) -> str:
    """As the caller of ``serve`` may have it: the whole URL behind a prefix."""
    return CACHE + url.replace("://", "/")


def rewritten(body: bytes) -> bytes:
    return rewrite_repodata(body, url=URL, address=address)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("https://files.test/pkgs/noarch", "https://cache.test/-/https/files.test/pkgs/noarch/"),
        ("http://files.test:80/pkgs/", "https://cache.test/-/http/files.test/pkgs/"),
        ("//files.test/pkgs", "https://cache.test/-/https/files.test/pkgs/"),
        ("../pkgs", "https://cache.test/-/https/channel.test/lab/pkgs/"),
        ("files", "https://cache.test/-/https/channel.test/lab/noarch/files/"),
        ("https://ana:secret@files.test/pkgs/", "https://cache.test/-/https/files.test/pkgs/"),
        ("./", None),
        ("https://channel.test/lab/noarch", None),
        ("", None),
        ("ftp://files.test/pkgs/", None),
        ("file:///etc/", None),
        ("https://files.test/pkgs/?sig=x", None),
        ("https://[bad/", None),
        ("https://files.test/" + "a" * 3000, None),
        (7, None),
        ({"a": ["https://files.test/"]}, None),
        (None, None),
    ],
    ids=str,
)
def test_the_base_url_of_repodata_leads_through_the_cache_or_goes(value, told):
    data = {
        "info": {"subdir": "noarch", "base_url": value, "more": 1.50},
        "packages": {"a-1-0.conda": {"depends": ["b"]}},
    }
    done = json.loads(rewritten(json.dumps(data).encode()))
    assert done["info"] == {"subdir": "noarch", "more": 1.50} | ({"base_url": told} if told else {})
    assert done["packages"] == data["packages"]


def test_a_caller_may_want_it_dropped():
    body = b'{"info":{"base_url":"https://files.test/"}}'
    assert rewrite_repodata(body, url=URL, address=lambda _: "") == b'{"info":{}}'


def test_every_byte_but_the_address_stays():
    before = b' {"packages": {"a-1-0.conda": {"x": 1.50, "base_url": "kept", "l": "\\u00e9\xc3\xa9"}},\n "info" : { "v" : 1e2 ,'
    after = b'}\n, "removed":[ ], "unknown": [{"deep": [[{}]]}, "}{"] }\n'
    done = rewritten(before + b' "base_url": "https://files.test/x" ' + after)
    new = b'{"v":1e2,"base_url":"https://cache.test/-/https/files.test/x/"}'
    assert done == before.partition(b"{ ")[0] + new + after[1:]


@pytest.mark.parametrize(
    "body",
    [
        b'{"info":{"base_\\u0075rl":"https://files.test/"}}',
        b'{"info":{"base_url":"https:\\/\\/files.test\\/"}}',
        b'{"\\u0069nfo":{"base_url":"https://files.test/"}}',
        b'{"info":{"base_url":"https://files.test/"},"info":{}}',
        b'{"info":{},"info":{"base_url":"https://files.test/"}}',
        b'{"info":{"base_url":"./","base_url":"https://files.test/"}}',
        b'{"packages":{"info":{}},"info":{"base_url":"https://files.test/"}}',
    ],
    ids=[
        "escaped key",
        "escaped value",
        "escaped info",
        "info twice",
        "the other way",
        "base_url twice",
        "info inside",
    ],
)
def test_an_address_cannot_be_hidden_in_another_spelling(body):
    """Readers differ in which of two equal keys they take: none of them may be left."""
    done = rewritten(body)
    assert b'"https://files.test' not in done.replace(b"\\/", b"/")
    json.loads(done)


@pytest.mark.parametrize(
    "body",
    [
        b'{"info":{"subdir":"noarch"},"packages":{}}',
        b'{"info":"base_url"}',
        b'{"info":null,"packages":{"base_url":{}}}',
        b'{"base_url":"https://files.test/"}',
    ],
)
def test_what_needs_no_change_is_the_same_object(body):
    assert rewritten(body) is body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"<html>base_url</html>",
        b'{"info":{"base_url":"x"}',
        b'{"info":{"base_url":"x"}}}',
        b'{"info":{"base_url":"x",}}',
        b'{"info":{"base_url" "x"}}',
        b'{"info":{base_url:"x"}}',
        b'{"info":{"base_url":}}',
        b'{"info":{"base_url":"x"} "packages":{}}',
        b'{"info":{"base_url":"\\q"},"\\q":0}',
        b'{"packages":["base_url"}',
        '{"info":{"base_url":"x"}}'.encode("utf-16"),
        b"\xef\xbb\xbf" + b'{"info":{"base_url":"x"}}',
    ],
)
def test_what_is_no_repodata_is_refused(body):
    with pytest.raises(FormatError):
        rewritten(body)


@pytest.mark.parametrize(
    "piece", [b"[", b"{", b'{"":', b'{"a":["', b'"\\', b"{[1,", b"1,", b'{"a":"b"']
)
def test_time_is_linear_in_what_comes(piece):
    def seconds(count: int) -> float:
        start = time.process_time()
        with pytest.raises(FormatError):
            rewritten(b'{"base_url":' + piece * count + b"}")
        return time.process_time() - start

    assert seconds(40_000) < 10 * seconds(10_000) + 0.2


def test_the_compressed_form_is_rewritten_the_same():
    body = b'{"info":{"base_url":"https://files.test/"}}'
    packed = zstd(body)
    assert unzstd(rewrite_repodata_zst(packed, url=URL + ".zst", address=address)) == rewritten(
        body
    )
    plain = zstd(b'{"info":{}}')
    assert rewrite_repodata_zst(plain, url=URL, address=address) is plain
    with pytest.raises(InvalidRepodata):
        rewrite_repodata_zst(packed, url=URL, address=address, limit=20)


# The shard index


def shard_index(**info) -> bytes:
    return zstd(
        msgpack.packb(
            {
                "version": 1,
                "info": {"subdir": "noarch", **info},
                "shards": {"a": bytes(32)},
                "more": [1.5],
            }
        )
    )


def rewritten_index(body: bytes) -> dict:
    return msgpack.unpackb(unzstd(rewrite_shard_index(body, url=INDEX, address=address)))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("https://files.test/x", "https://cache.test/-/https/files.test/x/"),
        ("../shards/", "https://cache.test/-/https/channel.test/lab/shards/"),
        ("/shards/", "https://cache.test/-/https/channel.test/shards/"),
        ("https://channel.test/lab/noarch/shards", "./shards/"),
        ("./shards/", "./shards/"),
        ("shards", "./shards/"),
        ("./", "./"),
        ("", ""),
        ("ftp://files.test/", "./"),
        (r"/\files.test/", "https://cache.test/-/https/channel.test/%5Cfiles.test/"),
        (7, "./"),
        (None, "./"),
        (["x"], "./"),
        (b"https://files.test/", "./"),
    ],
    ids=str,
)
@pytest.mark.parametrize("key", ["base_url", "shards_base_url"])
def test_both_bases_of_a_shard_index_stay_and_lead_through_the_cache(key, value, told):
    done = rewritten_index(shard_index(**{key: value}))
    assert done == {
        "version": 1,
        "info": {"subdir": "noarch", key: told},
        "shards": {"a": bytes(32)},
        "more": [1.5],
    }


def test_a_shard_index_keeps_every_byte_but_the_addresses():
    """Among them numbers in a wider form than they need, and a map of more shards than any other bound allows."""
    shards = msgpack.packb({f"name-{i}": bytes(32) for i in range(70_000)})
    raw = (
        b"\x83\xa7version\xcd\x00\x01\xa4info\x82\xa8base_url\xa2./\xa1k\xca\x3f\x80\x00\x00\xa6shards"
        + shards
    )
    assert rewrite_shard_index(zstd(raw), url=INDEX, address=address) == zstd(raw)
    changed = raw.replace(b"\xa2./", b"\xa3../")
    new = msgpack.packb("https://cache.test/-/https/channel.test/lab/")
    assert unzstd(rewrite_shard_index(zstd(changed), url=INDEX, address=address)) == raw.replace(
        b"\xa2./", new
    )


def test_equal_keys_and_keys_in_bytes_are_all_rewritten():
    raw = b"\x82\xa4info\x81\xa8base_url\xa8http://x\xc4\x04info\x82\xc4\x08base_url\xa8http://x\xa8base_url\xa8http://y"
    done = unzstd(rewrite_shard_index(zstd(raw), url=INDEX, address=address))
    assert b"http://" not in done
    assert done.count(b"https://cache.test/-/http/x/") == 2


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x90",
        b"\x81\xa4info\xc0",
        b"\x81\xa4info\x90",
        b"\x80\x80",
        b"\x82\xa4info\x80",
        b"\x81\xa4info\x81\xa8base_url\xdd\xff\xff\xff\xff",
        b"\x81\xa4info\xdf\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\x81\xdb\xff\xff\xff\xff",
        b"\x81\xa4more" + b"\x91" * 100_000 + b"\xc0",
        b"\x81\xa4info\x81\xa8base_url" + b"\x91" * 100_000 + b"\xc0",
        b"\x81\xa2\xff\xff\xc0",
        b"\xc1",
    ],
    ids=lambda raw: repr(raw[:16]),
)
def test_what_is_no_shard_index_is_refused(raw):
    with pytest.raises(InvalidRepodata):
        rewrite_shard_index(zstd(raw), url=INDEX, address=address)


def test_a_damaged_or_swelling_shard_index_is_refused():
    body = shard_index()
    for bad, limit in ((body[:-1], 1 << 20), (b"", 1 << 20), (body, 10)):
        with pytest.raises(InvalidRepodata):
            rewrite_shard_index(bad, url=INDEX, address=address, limit=limit)


# What upstream has not


def test_only_an_empty_noarch_is_made_up():
    base = "https://channel.test/lab"
    plain = stand_in(f"{base}/noarch/repodata.json?x=1")
    assert json.loads(plain) == {
        "info": {"subdir": "noarch"},
        "packages": {},
        "packages.conda": {},
        "removed": [],
        "repodata_version": 1,
    }
    assert unzstd(stand_in(f"{base}/noarch/repodata.json.zst")) == plain
    for path in (
        "linux-64/repodata.json",
        "noarch/current_repodata.json",
        "noarch/repodata_shards.msgpack.zst",
        "noarch/repodata.json.bz2",
        "xnoarch/repodata.json",
        "noarch/x-repodata.json",
    ):
        assert stand_in(f"{base}/{path}") is None
