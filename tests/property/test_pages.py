"""Properties of what reads remote text.

It ends in a value or in our own error, and quick ways agree with slow ones.
"""

import html
import json
import string
from html.parser import HTMLParser

from hypothesis import example, given, settings
from hypothesis import strategies as st
from packaging.utils import InvalidSdistFilename, InvalidWheelFilename
from packaging.utils import parse_sdist_filename as strict_sdist
from packaging.utils import parse_wheel_filename as strict_wheel
from packaging.version import InvalidVersion, Version

from entrepot.digests import Digest
from entrepot.errors import FormatError, InvalidPage
from entrepot.lockfiles import hosts_in_lock, read_arguments, read_lock
from entrepot.names import classify, filename_of, is_plain_filename, normal_version
from entrepot.ports.tool import Kind
from entrepot.simple.anchors import anchors
from entrepot.simple.negotiate import acceptable, decodable, decode
from entrepot.simple.page import looks_like_page, read_page
from entrepot.stored import Head, authority_of, cache_key, canonical_url, has_secret, redacted_url

SOME = settings(max_examples=150, deadline=None)

ANY = st.text(st.characters(codec=None), max_size=40)
URLISH = st.one_of(
    ANY,
    st.builds(
        lambda *p: "".join(p),
        st.sampled_from(["http://", "https://", "HTTPS://", "//", ""]),
        st.text(string.ascii_letters + "@:[]%./?#&=t-\u212a\u0130", max_size=40),
    ),
)
KEYS = st.sampled_from(
    "meta api-version name files projects filename url hashes sha256 md5 core-metadata dist-info-metadata size upload-time".split()
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | ANY
    | URLISH
    | st.sampled_from(["a" * 64, "x-1.0.tar.gz", "1.0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | ANY, inner, max_size=4),
    max_leaves=12,
)


def _is_well_formed(page):
    for link in page.links:
        assert canonical_url(link.url) == link.url
        assert authority_of(link.url) in page.hosts
        assert link.kind in set(Kind)
        assert link.filename is None or is_plain_filename(link.filename)
        assert link.size is None or link.size >= 0
        assert "#" not in link.url
        link.url.encode("ascii")


@SOME
@given(
    st.dictionaries(KEYS, VALUES)
    | st.fixed_dictionaries({"files": st.lists(st.dictionaries(KEYS, VALUES), max_size=4)}),
    URLISH,
)
def test_json_of_any_shape_is_a_page_or_an_invalid_page(data, url):
    try:
        _is_well_formed(
            read_page(json.dumps(data).encode(), content_type="application/json", url=url)
        )
    except InvalidPage:
        return


@SOME
@given(
    st.binary(max_size=200),
    st.sampled_from(["application/json", "text/html", "text/html; charset=utf-16", ""]),
    URLISH,
)
def test_bytes_of_any_kind_are_a_page_or_an_invalid_page(body, content_type, url):
    looks_like_page(url, content_type, body)
    try:
        _is_well_formed(read_page(body, content_type=content_type, url=url))
    except InvalidPage:
        return


PIECES = st.sampled_from(
    [
        "<a ",
        "<A\n",
        "href",
        "=",
        '"',
        "'",
        ">",
        "/>",
        " ",
        "<",
        "</a>",
        "<!--",
        "-->",
        "<base ",
        "<script>",
        "</script>",
        "&amp;",
        "&#46;",
        "x-1.0.tar.gz",
        "#sha256=" + "a" * 64,
        "data-core-metadata",
        "sha256=" + "b" * 64,
        "https://h/",
        "../",
        "<title>Links for ",
        "</title>",
        "\x00",
        "\u00e9",
        "<meta charset=",
    ]
)


@SOME
@given(st.lists(PIECES | ANY, max_size=25).map("".join), URLISH)
@example("<a href=https://h\x00/x-1.0.tar.gz>", "https://index.test/")
def test_html_of_any_shape_is_a_page_or_an_invalid_page(text, url):
    try:
        _is_well_formed(
            read_page(text.encode("utf-8", "surrogatepass"), content_type="text/html", url=url)
        )
    except InvalidPage:
        return


class _Slow(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        if tag in {"a", "base"}:
            first = {}
            for name, value in attrs:
                first.setdefault(name, value)
            self.found.append((tag, first))


SPACE = st.sampled_from([" ", "\n", "\t", "  "])
NAME = st.sampled_from(["href", "HREF", "data-core-metadata", "title", "rel", "data-yanked", "x:y"])
PLAIN = st.text(string.ascii_letters + string.digits + "/.:#-_%?+", min_size=1, max_size=20)
TEXT = st.text(string.ascii_letters + " <>=&;\u00e9/.'\n", max_size=20)


@st.composite
def _attribute(draw):
    name, value = draw(NAME), draw(TEXT)
    style = draw(st.integers(0, 3))
    if style == 0:
        return name
    if style == 1:
        return f"{name}={draw(PLAIN).rstrip('/') or 'x'}"
    equals = draw(st.sampled_from(["=", " = ", "= "]))
    escaped = html.escape(value) if draw(st.booleans()) else value.replace("&", "")
    return (
        f'{name}{equals}"{escaped}"'
        if style == 2
        else f"{name}{equals}'{escaped.replace(chr(39), '')}'"
    )


@st.composite
def _tag(draw):
    name = draw(st.sampled_from(["a", "A", "base", "p", "abbr", "img", "br"]))
    attributes = "".join(draw(SPACE) + each for each in draw(st.lists(_attribute(), max_size=4)))
    return f"<{name}{attributes}{draw(st.sampled_from(['>', ' >', ' />']))}"


INNER = st.text(string.ascii_letters + " \n.=\"'&", max_size=15)
PART = (
    _tag()
    | INNER
    | st.just("</a>")
    | INNER.map(lambda t: f"<!-- <a href=x> {t} -->")
    | INNER.map(lambda t: f"<script>'<a href=y>'{t}</script>")
)


@settings(max_examples=600, deadline=None)
@given(st.lists(PART, max_size=8).map("".join))
def test_the_quick_reader_of_anchors_agrees_with_the_standard_librarys(text):
    slow = _Slow()
    slow.feed(text)
    slow.close()
    assert list(anchors(text)) == slow.found


# names

IDENTIFIER = st.from_regex(r"\A[A-Za-z0-9]([A-Za-z0-9._]{0,8}[A-Za-z0-9])?\Z").filter(
    lambda n: "__" not in n
)
VERSION = st.from_regex(
    r"\A([0-9]!)?[0-9]{1,4}(\.[0-9]{1,3}){0,3}((a|b|rc)[0-9]{1,2})?(\.post[0-9])?(\.dev[0-9])?(\+[a-z0-9]{1,4}(\.[a-z0-9]{1,3})?)?\Z"
)
TAG = st.from_regex(r"\A[a-z][a-z0-9_]{1,8}(\.[a-z][a-z0-9_]{1,8})?\Z")


@SOME
@given(
    IDENTIFIER,
    VERSION,
    st.just("") | st.from_regex(r"\A-[0-9]{1,2}[a-z]{0,3}\Z"),
    st.tuples(TAG, TAG, TAG).map("-".join),
)
def test_every_wheel_name_is_read_as_packaging_reads_it(name, version, build, tags):
    filename = f"{name}-{version}{build}-{tags}.whl"
    project, parsed, _, _ = strict_wheel(filename)
    found = classify(filename)
    assert (found.project, found.version, found.tags, found.build) == (
        project,
        str(parsed),
        tags,
        build[1:],
    )


@SOME
@given(
    st.from_regex(r"\A[A-Za-z0-9]([A-Za-z0-9._-]{0,8}[A-Za-z0-9])?\Z"),
    VERSION,
    st.sampled_from([".tar.gz", ".zip"]),
)
def test_every_sdist_name_is_read_as_packaging_reads_it(name, version, suffix):
    filename = f"{name}-{version}{suffix}"
    project, parsed = strict_sdist(filename)
    found = classify(filename)
    assert (found.project, found.version) == (project, str(parsed))
    assert classify(filename, project=str(project)) == found


@SOME
@given(
    ANY | st.text("x-1.0py3none", max_size=20),
    st.sampled_from([".whl", ".tar.gz", ".zip", ".conda", ".tar.bz2", ".whl.metadata", ""]),
)
def test_a_file_name_of_any_kind_is_classified_or_not(stem, suffix):
    found = classify(stem + suffix)
    assert found is None or (
        found.filename == stem + suffix and found.kind in set(Kind) and found.project
    )
    for strict, error, ending in (
        (strict_wheel, InvalidWheelFilename, ".whl"),
        (strict_sdist, InvalidSdistFilename, ".tar.gz"),
    ):
        if (
            suffix == ending
            and found is None
            and is_plain_filename(stem + suffix)
            and stem.isascii()
        ):
            try:
                project, _, *_ = strict(stem + suffix)
            except error:
                continue
            assert not project.strip("-"), "packaging reads it, and we do not"


VERSION_PIECES = st.lists(
    st.sampled_from(
        [
            "0",
            "1",
            "01",
            "20",
            ".",
            "a",
            "b",
            "c",
            "rc",
            "post",
            "dev",
            "rev",
            "v",
            "-",
            "_",
            "+",
            "!",
            " ",
        ]
    ),
    max_size=7,
)


@settings(max_examples=600, deadline=None)
@given(ANY | VERSION | VERSION_PIECES.map("".join))
@example("1.0c1")
@example("1.0-1")
@example("1.0+01.a")
def test_versions_are_normalized_as_packaging_does(text):
    found = normal_version(text)
    try:
        expected = str(Version(text))
    except InvalidVersion:
        expected = None
    assert found == expected or (found is None and not text.isascii())


# URLs


@SOME
@given(URLISH)
def test_urls_of_any_kind_have_canonical_redacted_and_key_forms(url):
    canonical = canonical_url(url)
    assert canonical_url(canonical) == canonical
    assert cache_key(url) == cache_key(canonical)
    redacted = redacted_url(url)
    assert redacted_url(redacted) == redacted
    assert not has_secret(url) or redacted != url
    filename = filename_of(url)
    assert filename == "" or is_plain_filename(filename)
    authority_of(url)


SECRET = st.text(string.ascii_letters + string.digits + "-_", min_size=8, max_size=20).map(
    lambda s: f"S3CR3T{s}"
)


@SOME
@given(
    SECRET,
    st.sampled_from(
        [
            "https://u:{}@h.test/x",
            "https://{}@[::1]:8443/x",
            "https://h/t/{}/conda/x",
            "https://h/a?token={}",
            "https://h/a?b=1&X-Amz-Signature={}",
        ]
    ),
)
def test_no_secret_is_left_in_a_redacted_url(secret, shape):
    url = shape.format(secret)
    assert has_secret(url)
    assert secret not in redacted_url(url)


# the rest


@SOME
@given(st.binary(max_size=300))
def test_bytes_of_any_kind_are_a_head_or_a_format_error(raw):
    try:
        Head.from_bytes(raw)
    except FormatError:
        return


@SOME
@given(ANY)
def test_text_of_any_kind_is_a_digest_or_a_format_error(text):
    try:
        assert Digest.parse(str(Digest.parse(text)))
    except FormatError:
        return


@SOME
@given(
    st.binary(max_size=200),
    st.sampled_from(["gzip", "deflate", "zstd", "br", "gzip, deflate", ""]),
    st.integers(0, 300),
)
def test_coded_bytes_of_any_kind_are_a_bounded_body_or_a_format_error(body, coding, limit):
    try:
        assert len(decode(body, coding, limit=limit)) <= limit
    except FormatError:
        return


@SOME
@given(
    ANY | st.text('abc/*;q=0.15,"\\ ', max_size=30), ANY | st.sampled_from(["text/html", "gzip"])
)
def test_negotiation_never_fails(field, offered):
    assert acceptable(field, offered) in {True, False}
    assert decodable(field, offered) in {True, False}


LOCKISH = st.lists(
    ANY
    | URLISH
    | st.sampled_from(
        [
            "\n",
            "[[package]]\n",
            'name = "x"\n',
            'version = "1"\n',
            "wheels = [",
            "{ url = ",
            "}",
            "]",
            '"https://h/x-1.tar.gz"',
            'hash = "sha256:',
            "a" * 64,
            '"',
            "x==1.0 ",
            "--hash=sha256:",
            "\\\n",
            "# c",
            " @ https://h/x.whl#sha256=",
            "- url: ",
            "- conda: https://h/x-1-0.conda\n",
            "  sha256: ",
            "{",
            ":",
            '"hashes"',
        ]
    ),
    max_size=15,
).map("".join)


@SOME
@given(
    LOCKISH,
    st.sampled_from(
        [
            "uv.lock",
            "poetry.lock",
            "pylock.toml",
            "Pipfile.lock",
            "conda-lock.yml",
            "requirements.txt",
            "explicit",
            "",
        ]
    ),
)
def test_lock_files_of_any_shape_say_something_or_nothing(text, name):
    known = read_lock(text, name=name)
    for link in known.links:
        assert canonical_url(link.url) == link.url
    hosts_in_lock(text)
    read_arguments([text, "--hash", text])
