"""Properties of what reads channels' indexes.

It ends in a value or in InvalidRepodata, and says what a plain reading says.
"""

import bz2
import gzip
import json
import resource
from unittest import mock

import msgpack
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from entrepot.channel import repodata
from entrepot.channel.coding import content_codings, unpacked
from entrepot.channel.forms import index_name, resolved, shard_digest, split
from entrepot.channel.records import Record, Table
from entrepot.channel.repodata import read_repodata
from entrepot.channel.shards import base_of, read_shard, read_shard_index, relative
from entrepot.digests import Digest
from entrepot.errors import InvalidRepodata
from entrepot.links import Link
from entrepot.names import is_plain_filename
from entrepot.stored import authority_of, canonical_url, has_secret

SOME = settings(max_examples=150, deadline=None)
C = "https://channel.test/c/noarch/"
ANY = st.text(st.characters(codec=None), max_size=30)
KEYS = st.sampled_from(
    "info base_url shards_base_url subdir packages packages.conda v3 conda tar.bz2 removed sha256 md5 size shards version".split()
)
NAMES = st.sampled_from(["a-1.0-0.conda", "b-1.0-0.tar.bz2", "../c-1-0.conda", "a-1.0-0", ""]) | ANY
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | ANY
    | st.sampled_from(["ab" * 32, "cd" * 16, "../x", "https://o.test/"])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | NAMES, inner, max_size=5),
    max_leaves=25,
)
RECORDS = st.dictionaries(NAMES, st.dictionaries(KEYS, SCALARS, max_size=4) | SCALARS, max_size=5)
REPODATA = st.fixed_dictionaries(
    {},
    optional={
        "info": st.dictionaries(KEYS, SCALARS) | JSON,
        "packages": RECORDS,
        "packages.conda": RECORDS,
        "removed": JSON,
        "v3": JSON,
    },
)
PACKED = st.recursive(
    SCALARS.filter(lambda v: not isinstance(v, int) or -(1 << 63) <= v < 1 << 64)
    | st.binary(max_size=40)
    | st.just(b"\xab" * 32),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(KEYS | NAMES | st.integers(0, 9), inner, max_size=5)
    ),
    max_leaves=25,
)


def packed(value):
    return zstandard.ZstdCompressor(1).compress(
        msgpack.packb(value, unicode_errors="surrogatepass")
    )


def read(data, name="repodata.json", step=1 << 20):
    """The index, or ``None`` when it is none.

    The text is looked at ``step`` characters at a time.
    """
    try:
        with mock.patch.object(repodata, "CHUNK", step):
            return read_repodata(
                [data[i : i + step] for i in range(0, len(data), step)], url=C + name
            )
    except InvalidRepodata:
        return None


@SOME
@given(JSON | REPODATA, st.integers(1, 50), st.booleans())
@example({"packages": {"a-1.0-0.conda": 0.5}}, 1, True)
@example({"packages": {}, "info": {"base_url": None}, "v3": None}, 2, False)
@example({"packages": {"a-1.0-0.conda": 1e300, "b-1.0-0.conda": {"size": 7}}}, 1, False)
def test_repodata_says_what_a_plain_reading_of_it_says(data, step, spaced):
    text = json.dumps(data, indent=2 if spaced else None).encode()
    found = read(text, step=step)
    if not isinstance(data, dict):
        assert found is None
        return
    assert found is not None
    for section in ("packages", "packages.conda"):
        records = data.get(section)
        for name, record in records.items() if isinstance(records, dict) else ():
            if (
                isinstance(record, dict)
                and is_plain_filename(name)
                and name not in json.dumps(data.get("v3"))
            ):
                last = (
                    data["packages.conda"][name]
                    if name in (data.get("packages.conda") or ())
                    else record
                )
                assert found.table.find(name) == Record.of(
                    last if isinstance(last, dict) else record
                )


@SOME
@given(
    st.binary(max_size=300),
    st.sampled_from(
        ["repodata.json", "repodata.json.zst", "repodata.json.bz2", "repodata_shards.msgpack.zst"]
    ),
)
@example(b"{" * 5000, "repodata.json")
@example(b'{"packages":' * 5000, "repodata.json")
@example(b'{"info":1e999999,"packages":{"a":{"size":' + b"9" * 5000 + b"}}}", "repodata.json")
def test_bytes_that_mean_nothing_are_no_index(data, name):
    read(data, name)
    for work in (
        lambda: read_shard_index([data], url=C + name),
        lambda: read_shard([data], base=C),
    ):
        try:
            work()
        except InvalidRepodata:
            pass


WHOLE = json.dumps(
    {
        "info": {"base_url": "x"},
        "packages": {},
        "packages.conda": {"a-1-0.conda": {"sha256": "ab" * 32, "size": 7}},
    }
).encode()


@SOME
@given(
    st.integers(0, len(WHOLE)),
    st.binary(max_size=4),
    st.sampled_from(["", ".zst", ".bz2"]),
    st.data(),
)
def test_a_damaged_index_is_none_or_says_nothing_that_was_not_there(at, noise, coding, data):
    body = {
        "": WHOLE,
        ".zst": zstandard.ZstdCompressor(1, write_checksum=True).compress(WHOLE),
        ".bz2": bz2.compress(WHOLE),
    }[coding]
    at = min(at, len(body))
    found = read(
        body[:at] + noise + body[at + data.draw(st.integers(0, 4)) :], f"repodata.json{coding}"
    )
    if found is not None and coding:
        assert found.table.find("a-1-0.conda") == Record(b"\xab" * 32, b"", 7)


@SOME
@given(PACKED, ANY)
def test_any_msgpack_is_read_or_refused(data, base):
    try:
        raw = packed(data)
    except (ValueError, TypeError):
        return
    try:
        index = read_shard_index([raw], url=C + "repodata_shards.msgpack.zst")
    except InvalidRepodata:
        index = None
    if index is not None:
        assert all(len(sha) == 32 for sha in index.shards.values())
        assert all(shard_digest(link.url) == link.digests[0] for link in index.links())
    try:
        links = read_shard([raw], base=C)
    except InvalidRepodata:
        links = []
    assert all(split(link.url)[0] == C or "?" in link.url for link in links)


HEADS = [
    bytes([0xDD]) + b"\xff" * 4,
    bytes([0xDF]) + b"\xff" * 4,
    bytes([0xC6]) + b"\xff" * 4,
    b"\x91",
    b"\x81\xa1a",
    bytes([0xDC, 0x4E, 0x20]),
]
"""What claims to be long, or is deep."""


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(HEADS), max_size=6), st.integers(1, 3000), st.booleans())
def test_bombs_of_msgpack_cost_little_memory(parts, times, record):
    bomb = b"".join(parts) * times
    whole = (
        b"\x81\xaepackages.conda\x81\xada-1.0-0.conda" + bomb
        if record
        else b"\x81\xa6shards\x81\xa1a" + bomb
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    raw = zstandard.ZstdCompressor(1).compress(whole)
    for work in (lambda: read_shard_index([raw], url=C), lambda: read_shard([raw], base=C)):
        try:
            work()
        except InvalidRepodata:
            pass
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 << 10, "KiB"


def test_eight_million_small_things_in_a_record_are_not_made():
    many = 8 << 20
    whole = (
        b"\x81\xaepackages.conda\x81\xada-1.0-0.conda\x81\xa1x\xdd"
        + many.to_bytes(4, "big")
        + b"\x80" * many
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert read_shard([zstandard.ZstdCompressor(1).compress(whole)], base=C) == []
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 128 << 10, "KiB"


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.sampled_from(["zst", "gzip", "bz2"]), min_size=1, max_size=3),
    st.integers(1 << 20, 8 << 20),
)
def test_bombs_are_cut_off_whatever_they_are_packed_in(codings, size):
    pack = {
        "zst": zstandard.ZstdCompressor(3).compress,
        "gzip": lambda b: gzip.compress(b, 1),
        "bz2": lambda b: bz2.compress(b, 1),
    }
    body = bytes(size)
    for coding in reversed(codings):
        body = pack[coding](body)
    given_out = 0
    try:
        for piece in unpacked([body], codings, limit=500_000):
            given_out += len(piece)
    except InvalidRepodata:
        assert given_out <= 500_000
    else:
        raise AssertionError("it was not cut off")


@SOME
@given(
    ANY
    | st.sampled_from(
        ["../x", "//h.test/a", "https://h.test:99999999999/", "https://[::1]/", "t/tk/", "/t/"]
    )
)
@example("https://h\u0130.test/")
def test_a_base_is_a_directory_that_can_be_asked_or_nothing(base):
    found = resolved(base, f"{C}repodata.json")
    assert not found or (
        found == canonical_url(found) and authority_of(found) and found.endswith("/")
    )


PATHS = st.lists(st.sampled_from(["a", "b", "t", "tk-1", "shards", "noarch"]), max_size=5).map(
    lambda parts: "/".join(["", *parts, ""])
)


@SOME
@given(PATHS, PATHS, st.booleans())
def test_a_directory_said_from_another_leads_back_and_tells_no_token(mine, other, same):
    directory, here = (
        f"https://channel.test{mine}",
        f"https://{'channel' if same else 'other'}.test{other}",
    )
    said = relative(directory, here)
    if said:
        assert base_of(Link(f"{here}{'ab' * 32}.msgpack.zst", source=said)) == directory
        assert not has_secret(said if "://" in said else f"https://h/{said}")


@SOME
@given(
    st.lists(
        st.tuples(
            NAMES,
            st.binary(min_size=32, max_size=32),
            st.binary(min_size=16, max_size=16),
            st.integers(1, 1 << 60),
        )
    )
)
def test_a_table_gives_back_the_last_that_was_put_in(rows):
    table, expected = Table(), {}
    for name, sha256, md5, size in rows:
        expected[name] = Record(sha256, md5, size)
        table.add(name, expected[name])
    table.close()
    assert len(table) == len(rows)
    for name, record in expected.items():
        found = table.find(name)
        assert found == Record(
            record.sha256 if any(record.sha256) else b"",
            record.md5 if any(record.md5) else b"",
            record.size,
        )
    assert table.find("not there") is None


@SOME
@given(ANY)
def test_urls_and_fields_never_raise(text):
    for url in (text, f"{C}{text}", f"https://{text}"):
        index_name(url)
        assert shard_digest(url) is None or isinstance(shard_digest(url), Digest)
    content_codings(text)
