"""pip.conf by lines: awkward files come out as they went in but for the line asked for, and Python's parser reads them."""

from __future__ import annotations

import configparser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.errors import ConfigError
from entrepot.tools.pip.conffile import mend, parse, with_value, without_key

AWKWARD = {
    "empty": "",
    "no-final-newline": "[global]\ntimeout = 3",
    "comments-around": "# top\n[global]\n# above\ntimeout = 3\n# below\n\n; end\n",
    "colon": "[global]\ntimeout: 3\nindex-url : https://index.test/simple\n",
    "no-blanks": "[global]\ntimeout=3\n",
    "many-blanks": "[global]\ntimeout   =   3\n",
    "tabs": "[global]\ntimeout\t=\t3\n",
    "crlf": "[global]\r\ntimeout = 3\r\n# end\r\n",
    "carriage-returns": "[global]\rtimeout = 3\r",
    "mixed-ends": "[global]\r\ntimeout = 3\n",
    "continuation": "[global]\nfind-links =\n    https://a.test/\n    https://b.test/\ntimeout = 3\n",
    "continuation-comment": "[global]\nextra-index-url = https://a.test/\n    # mine\n    https://b.test/\ntimeout = 3\n",
    "continuation-blank": "[global]\nfind-links = a\n\n    b\n\ntimeout = 3\n",
    "indented-keys": "[global]\n  timeout = 3\n  retries = 1\n",
    "indented-section": "  [global]\n  timeout = 3\n",
    "underscores": "[global]\nTime_Out = 3\nCACHE_DIR = /x\n",
    "leading-dashes": "[global]\n--timeout = 3\n",
    "many-sections": "[install]\nuser = yes\n\n[global]\ntimeout = 3\n\n[freeze]\ntimeout = 10\n",
    "default-section": "[DEFAULT]\ntimeout = 3\n[global]\nretries = 1\n",
    "capital-section": "[GLOBAL]\ntimeout = 3\n",
    "percent": "[global]\nindex-url = https://u:p%40w@index.test/%(x)s/\n",
    "hash-in-value": "[global]\nfind-links = https://a.test/#egg=b ; not a comment\n",
    "unicode": "[global]\n# Käse, 缓存\ncache-dir = /tmp/Käse\n",
    "line-separator": "[global]\ncache-dir = /tmp/a\u2028b\n",
    "form-feed": "[global]\ncache-dir = /tmp/a\x0cb\n",
    "blank-lines": "\n\n\n[global]\n\n\ntimeout = 3\n\n\n",
    "empty-value": "[global]\nproxy =\ntimeout = 3\n",
    "empty-section": "[global]\n\n[install]\nuser = yes\n",
    "section-with-comment": "[global] # mine\ntimeout = 3\n",
    "equals-in-value": "[global]\nconfig-settings = a=b:c=d\n",
    "comment-looks-like-key": "[global]\n#timeout = 9\ntimeout = 3\n;timeout = 10\n",
}


def read(text: str) -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser()
    parser.read_string(text.replace("\r\n", "\n").replace("\r", "\n"))
    return {name: dict(parser.items(name)) for name in parser.sections()}


@pytest.mark.parametrize("text", AWKWARD.values(), ids=AWKWARD)
def test_setting_a_key_changes_that_key_alone(text):
    plain = (
        "\u2028" not in text and "\x0c" not in text
    )  # read_string splits lines there, reading a file does not
    before = read(text) if plain else None
    after = with_value(text, "global", "no-color", "yes")
    kept = [
        line
        for line in parse(after).lines
        if "no-color" not in line and line.strip() not in ("", "[global]")
    ]
    assert [line.rstrip("\r\n") for line in kept] == [
        line.rstrip("\r\n") for line in parse(text).lines if line.strip() not in ("", "[global]")
    ]
    if before is not None:
        expected = {
            **before,
            "global": {**before.get("global", read(after)["global"]), "no-color": "yes"},
        }
        assert read(after) == expected
    assert parse(without_key(after, "global", "no-color")).options == [
        o for o in parse(without_key(after, "global", "no-color")).options if o.key != "no-color"
    ]


@pytest.mark.parametrize(
    "text",
    [t for t in AWKWARD.values() if t and "[global]" in t],
    ids=[k for k, t in AWKWARD.items() if "[global]" in t],
)
def test_setting_and_unsetting_gives_the_same_bytes(text):
    """But for a last line end that was missing: a line cannot be added without it."""
    changed = without_key(with_value(text, "global", "no-color", "yes"), "global", "no-color")
    assert changed == (text if text.endswith(("\n", "\r")) else text + parse(text).newline)


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("[global]\ntimeout: 3 \n", "[global]\ntimeout: 9\n"),
        ("[global]\r\n\ttimeout=3\r\n", "[global]\r\n\ttimeout=9\r\n"),
        ("[global]\nTime-Out  =  3", "[global]\nTime-Out  =  3\ntimeout  =  9\n"),
        ("[global]\nTIMEOUT = 3", "[global]\nTIMEOUT = 9"),
        (
            "[global]\ntimeout =\n   3\n   # why\n   4\nretries = 1\n",
            "[global]\ntimeout = 9\n   # why\nretries = 1\n",
        ),
        ("[install]\na = b\n", "[install]\na = b\n\n[global]\ntimeout = 9\n"),
        ("", "[global]\ntimeout = 9\n"),
    ],
)
def test_a_changed_line_keeps_its_spelling_delimiter_and_end(text, after):
    assert with_value(text, "global", "timeout", "9") == after


def test_a_value_of_several_lines_is_read_back():
    text = with_value(
        "[global]\nfind-links = a\n", "global", "find-links", "\nhttps://a.test/\nhttps://b.test/"
    )
    assert text == "[global]\nfind-links =\n    https://a.test/\n    https://b.test/\n"
    assert parse(text).find("global", "find-links").value == "\nhttps://a.test/\nhttps://b.test/"


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("global", "a b", "x"), ("global", "k=v", "x"), ("global", "", "x"),
        ("glo]bal", "k", "x"), ("DEFAULT", "k", "x"), ("", "k", "x"),
        ("global", "k", "a\n\nb"), ("global", "k", "a\n# b"),
        ("global", "k", " a"), ("global", "k", "a\rb"), ("global", "k", "a\0"),
    ],
)  # fmt: skip
def test_what_would_be_read_back_otherwise_is_refused(section, key, value):
    with pytest.raises(ConfigError):
        with_value("[global]\n", section, key, value)


BROKEN = {
    "section-twice": (
        "[global]\na = 1\n[install]\nb = 2\n[global]\nc = 3\n",
        "duplicate-section",
        5,
    ),
    "section-twice-same-key": ("[global]\na = 1\n[global]\na = 2\n", "duplicate-section", 3),
    "key-twice": ("[global]\na = 1\nb = 1\na = 2\n", "duplicate-key", 4),
    "key-twice-spelled-otherwise": ("[global]\ncache-dir = 1\nCache_Dir = 2\n", "duplicate-key", 3),
    "bom": ("\ufeff[global]\na = 1\n", "bom", 1),
    "no-section": ("# mine\na = 1\n", "no-section", 2),
    "bad-line": ("[global]\na = 1\nwhat is this\n", "bad-line", 3),
    "no-key": ("[global]\n= 1\n", "bad-line", 2),
    "not-utf-8": (
        b"[global]\n# K\xe4se\ntimeout = 3\n".decode("utf-8", "surrogateescape"),
        "encoding",
        2,
    ),
}


@pytest.mark.parametrize(("text", "kind", "line"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_named_with_its_line_refused_and_mended(text, kind, line):
    assert (parse(text).problems[0].kind, parse(text).problems[0].line) == (kind, line)
    with pytest.raises(ConfigError):
        with_value(text, "global", "timeout", "3")
    mended, done = mend(text)
    assert done
    assert not parse(mended).problems
    read(mended)
    assert mend(mended) == (mended, [])


def test_mending_keeps_the_later_of_two_values_and_loses_no_line():
    mended, _ = mend("[global]\na = 1\n\n[install]\nb = 2\n[global]\na = 2\n# why\nc = 3\n")
    assert mended == "[global]\n# a = 1\na = 2\n# why\nc = 3\n\n[install]\nb = 2\n"


LINES = st.sampled_from(
    [
        "[global]",
        "[install]",
        "a = 1",
        "b: 2",
        "c=",
        "  more",
        "\tmore",
        "# note",
        "; note",
        "",
        "   ",
        "A_b = x",
        "odd",
        "d = [x]",
        "= 3",
    ]
)


@given(st.lists(LINES, max_size=12), st.sampled_from(["\n", "\r\n"]))
def test_what_is_called_sound_is_sound_for_python_and_the_reverse(lines, end):
    text = end.join(lines)
    file = parse(text)
    assert file.text == text
    try:
        values = read(text)
    except configparser.Error:
        assert file.problems
        return
    spelled = [p for p in file.problems if p.kind != "duplicate-key"]
    assert not spelled
    if not file.problems:
        own = {o.section: {} for o in file.options} | {name: {} for name in file.sections}
        for option in file.options:
            own[option.section][option.key] = option.value
        assert own == {
            s: {k.lower().replace("_", "-"): v for k, v in items.items()}
            for s, items in values.items()
        }


@given(st.lists(LINES, max_size=12))
def test_mending_always_ends_with_a_file_that_python_reads(lines):
    mended, _ = mend("\n".join(lines))
    assert not parse(mended).problems
    read(mended)
