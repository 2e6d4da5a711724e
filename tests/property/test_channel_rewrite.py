"""Whatever a channel sends, its index is led through the cache, or refused.

Nothing else in it changes.
"""

import json

import msgpack
from hypothesis import example, given, settings
from hypothesis import strategies as st

from entrepot.channel.coding import unzstd, zstd
from entrepot.channel.rewrite import rewrite_repodata, rewrite_repodata_zst, rewrite_shard_index
from entrepot.errors import FormatError

SOME = settings(max_examples=80, deadline=None)
URL = "https://channel.test/lab/noarch/repodata.json"
CACHE = "https://cache.test/-/"

ANY = st.text(max_size=20)
BASES = st.one_of(
    ANY,
    st.none() | st.integers(-9, 9) | st.lists(ANY, max_size=2),
    st.builds(
        "".join,
        st.tuples(
            st.sampled_from(
                [
                    "https://",
                    "http://",
                    "//",
                    "/",
                    "../",
                    "./",
                    "",
                    "HTTPS://",
                    "ftp://",
                    "https:/",
                    "/\\",
                    " ",
                ]
            ),
            st.text("abz.-_:@/\\%[]?#é ", max_size=20),
        ),
    ),
)
KEYS = st.sampled_from(["base_url", "shards_base_url", "info", "packages", "subdir"]) | ANY
VALUES = st.recursive(
    BASES | st.booleans() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.builds(
    lambda rest, info, base: {**rest, "info": {**info, **base}},
    st.dictionaries(KEYS, VALUES, max_size=4),
    st.dictionaries(ANY, VALUES, max_size=3),
    st.dictionaries(st.sampled_from(["base_url", "shards_base_url"]), BASES, max_size=2),
)


def address(url):
    assert url.startswith(("http://", "https://"))
    assert url.endswith("/")
    assert url.isascii()
    return CACHE + url.replace("://", "/")


def without(data, *keys):
    info = {key: value for key, value in data["info"].items() if key not in keys}
    return {**data, "info": info}


@SOME
@given(DOCUMENTS, st.booleans(), st.sampled_from([None, 0, 2]))
@example({"info": {"base_url": "//evil.test/"}}, True, None)
def test_nothing_but_the_base_url_of_repodata_changes(data, escaped, indent):
    body = json.dumps(data, ensure_ascii=escaped, indent=indent).encode("utf-8", "surrogatepass")
    done = json.loads(rewrite_repodata(body, url=URL, address=address))
    assert without(done, "base_url") == without(data, "base_url")
    assert done["info"].get("base_url", CACHE).startswith(CACHE)
    assert rewrite_repodata_zst(zstd(body), url=URL, address=lambda _: "")


@SOME
@given(DOCUMENTS)
def test_nothing_but_the_bases_of_a_shard_index_changes(data):
    done = msgpack.unpackb(
        unzstd(rewrite_shard_index(zstd(msgpack.packb(data)), url=URL, address=address))
    )
    assert without(done, "base_url", "shards_base_url") == without(
        data, "base_url", "shards_base_url"
    )
    assert done["info"].keys() == data["info"].keys()
    for key in {"base_url", "shards_base_url"} & done["info"].keys():
        assert done["info"][key] == "" or done["info"][key].startswith((CACHE, "./"))


@SOME
@given(
    st.binary(max_size=60) | st.builds(lambda b: b'{"info":{"base_url"' + b, st.binary(max_size=40))
)
def test_any_bytes_are_rewritten_or_refused(body):
    for rewrite, given_bytes in (
        (rewrite_repodata, body),
        (rewrite_repodata_zst, zstd(body)),
        (rewrite_repodata_zst, body),
        (rewrite_shard_index, zstd(body)),
        (rewrite_shard_index, zstd(b"\x81\xa4info\x81\xa8base_url" + body)),
    ):
        try:
            assert isinstance(rewrite(given_bytes, url=URL, address=address), bytes)
        except FormatError:
            continue


@SOME
@given(DOCUMENTS, st.integers(0, 10_000), st.integers(0, 255))
def test_one_wrong_byte_is_never_more_than_a_refusal(data, place, value):
    for pack, rewrite in (
        (lambda d: json.dumps(d).encode(), rewrite_repodata),
        (msgpack.packb, rewrite_shard_index),
    ):
        raw = bytearray(pack(data))
        raw[place % len(raw)] = value
        try:
            rewrite(
                zstd(bytes(raw)) if rewrite is rewrite_shard_index else bytes(raw),
                url=URL,
                address=address,
            )
        except FormatError:
            continue
