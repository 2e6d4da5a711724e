"""Editing condarc by lines: what was asked for and nothing else, comments and markers kept.

What cannot be done so is refused.
"""

from __future__ import annotations

import difflib
import os

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from entrepot.errors import ConfigError
from entrepot.ports.tool import Surroundings
from entrepot.tools.conda.edit import (
    quoted,
    with_item,
    with_scalar,
    without_item,
    without_key,
)
from entrepot.tools.conda.settings import CondaSettings, MambaSettings

K = "pkgs_dirs"
FULL = "# top\nchannels:  # ours\n  - a\npkgs_dirs:  #!final\n  # big disk\n  - /a  #!top\n  - /b\n\n# end\nssl_verify: true  # yes\n"

EDITS = [
    ("an empty file", lambda t: with_item(t, K, "/n"), "", "pkgs_dirs:\n  - /n\n"),
    (
        "what conda leaves of an empty file",
        lambda t: with_item(t, K, "/n"),
        "{}\n",
        "pkgs_dirs:\n  - /n\n",
    ),
    (
        "no newline at the end",
        lambda t: with_item(t, K, "/n"),
        "a: b",
        "a: b\npkgs_dirs:\n  - /n\n",
    ),
    (
        "first of a list",
        lambda t: with_item(t, K, "/n"),
        FULL,
        FULL.replace("  - /a", "  - /n\n  - /a"),
    ),
    (
        "last of a list",
        lambda t: with_item(t, K, "/n", "last"),
        FULL,
        FULL.replace("  - /b\n", "  - /b\n  - /n\n"),
    ),
    (
        "one that is there moves",
        lambda t: with_item(t, K, "/b"),
        FULL.replace("  - /b\n", "  - /b\n  - /c\n"),
        FULL.replace("  - /a", "  - /b\n  - /a").replace("  - /b\n\n", "  - /c\n\n"),
    ),
    (
        "and takes its marker along",
        lambda t: with_item(t, K, "/a", "last"),
        "pkgs_dirs:\n  - /a  #!top\n  - /b\nx: 1\n",
        "pkgs_dirs:\n  - /b\n  - /a  #!top\nx: 1\n",
    ),
    (
        "a comment that would hide a marker",
        lambda t: without_item(t, K, "/b"),
        "pkgs_dirs:\n  - /a  #!top\n  - /b\n  # slow\n  - /c\n",
        "pkgs_dirs:\n  # slow\n  - /a  #!top\n  - /c\n",
    ),
    (
        "a comment that would hide the key's marker",
        lambda t: without_item(t, K, "/b"),
        "pkgs_dirs:  #!final\n  - /b\n  # slow\n  - /c\n",
        "pkgs_dirs:  #!final\n  - /c\n  # slow\n",
    ),
    (
        "out of a list",
        lambda t: without_item(t, K, "/b"),
        FULL.replace("/b", "/b\n  - /c"),
        FULL.replace("/b", "/c"),
    ),
    (
        "out of a list, with its marker",
        lambda t: without_item(t, K, "/a"),
        FULL,
        FULL.replace("  - /a  #!top\n", ""),
    ),
    ("the last one", lambda t: without_item(t, K, "/a"), "pkgs_dirs:\n  - /a\n", "pkgs_dirs: []\n"),
    (
        "the last one under final",
        lambda t: without_item(t, K, "/a"),
        "pkgs_dirs:  #!final\n  - /a\n",
        "pkgs_dirs: []  #!final\n",
    ),
    (
        "twice there",
        lambda t: without_item(t, K, "/a"),
        "pkgs_dirs:\n- /a\n- /b\n- /a\n",
        "pkgs_dirs:\n- /b\n",
    ),
    (
        "a list at the key's depth",
        lambda t: with_item(t, K, "/n"),
        "pkgs_dirs:\n- /a\nx: 1\n",
        "pkgs_dirs:\n- /n\n- /a\nx: 1\n",
    ),
    (
        "deep",
        lambda t: with_item(t, K, "/n", "last"),
        "pkgs_dirs:\n      - /a\n",
        "pkgs_dirs:\n      - /a\n      - /n\n",
    ),
    (
        "into brackets",
        lambda t: with_item(t, K, "/n"),
        "pkgs_dirs: [/a, '/b c']  # x\n",
        "pkgs_dirs: [/n, /a, '/b c']  # x\n",
    ),
    (
        "at the end of brackets",
        lambda t: with_item(t, K, "/n", "last"),
        "pkgs_dirs: [/a]\n",
        "pkgs_dirs: [/a, /n]\n",
    ),
    (
        "into empty brackets",
        lambda t: with_item(t, K, "/n"),
        "pkgs_dirs: []\n",
        "pkgs_dirs: [/n]\n",
    ),
    (
        "out of brackets",
        lambda t: without_item(t, K, "/b"),
        "pkgs_dirs: [/a, /b]\n",
        "pkgs_dirs: [/a]\n",
    ),
    (
        "brackets over lines",
        lambda t: with_item(t, K, "/n"),
        "pkgs_dirs: [\n  /a,\n  /b ]\nx: 1\n",
        "pkgs_dirs: [/n, /a, /b]\nx: 1\n",
    ),
    (
        "a key without a value",
        lambda t: with_item(t, K, "/n"),
        "pkgs_dirs:  # none\nx: 1\n",
        "pkgs_dirs:  # none\n  - /n\nx: 1\n",
    ),
    ("a null", lambda t: with_item(t, K, "/n"), "pkgs_dirs: ~\n", "pkgs_dirs:\n  - /n\n"),
    (
        "a quoted key",
        lambda t: with_item(t, K, "/n"),
        "'pkgs_dirs':\n  - /a\n",
        "'pkgs_dirs':\n  - /n\n  - /a\n",
    ),
    (
        "Windows newlines",
        lambda t: with_item(t, K, "/n"),
        "pkgs_dirs:\r\n  - /a\r\n",
        "pkgs_dirs:\r\n  - /n\r\n  - /a\r\n",
    ),
    (
        "a value that needs quotes",
        lambda t: with_item(t, K, "/n: #x"),
        "",
        'pkgs_dirs:\n  - "/n: #x"\n',
    ),
    ("a tilde", lambda t: with_item(t, K, "~/n"), "", "pkgs_dirs:\n  - ~/n\n"),
    (
        "a byte order mark",
        lambda t: with_item(t, K, "/n"),
        "\ufeffpkgs_dirs:\n  - /a\n",
        "\ufeffpkgs_dirs:\n  - /n\n  - /a\n",
    ),
    (
        "another list of the same entries",
        lambda t: without_item(t, K, "/a"),
        "x:\n  - /a\npkgs_dirs:\n  - /a\n",
        "x:\n  - /a\npkgs_dirs: []\n",
    ),
    (
        "an alias among the entries",
        lambda t: without_item(t, K, "/b"),
        "x: &a /a\npkgs_dirs: [*a, /b]\n",
        "x: &a /a\npkgs_dirs: [*a]\n",
    ),
    (
        "a scalar",
        lambda t: with_scalar(t, "ssl_verify", "false"),
        FULL,
        FULL.replace("true", "false"),
    ),
    ("a new scalar", lambda t: with_scalar(t, "offline", "true"), FULL, FULL + "offline: true\n"),
    ("a quoted scalar", lambda t: with_scalar(t, "x", "b"), "x: 'a # b'   # c\n", "x: b   # c\n"),
    (
        "a key",
        lambda t: without_key(t, K),
        FULL,
        "# top\nchannels:  # ours\n  - a\n\n# end\nssl_verify: true  # yes\n",
    ),
    (
        "a scalar's key",
        lambda t: without_key(t, "ssl_verify"),
        FULL,
        FULL.replace("ssl_verify: true  # yes\n", ""),
    ),
    (
        "comments between entries",
        lambda t: without_item(t, K, "/b"),
        "pkgs_dirs:\n  - /a\n  # why\n  - /b\n",
        "pkgs_dirs:\n  - /a\n  # why\n",
    ),
]


@pytest.mark.parametrize(
    ("change", "before", "after"), [edit[1:] for edit in EDITS], ids=[edit[0] for edit in EDITS]
)
def test_only_what_was_asked_for_changes(change, before, after):
    assert change(before) == after


@pytest.mark.parametrize(
    ("change", "text", "words"),
    [
        (lambda t: with_item(t, K, "/n"), "pkgs_dirs: /a\n", "line 1"),
        (lambda t: with_item(t, K, "/n"), "x: 1\npkgs_dirs:\n\t- /a\n", "line 3"),
        (lambda t: with_item(t, K, "/n"), "pkgs_dirs: [/a\nx: 1\n", "line 2"),
        (lambda t: without_item(t, K, "/n"), "pkgs_dirs:\n  - /a\n", "no entry"),
        (lambda t: with_scalar(t, K, "x"), "pkgs_dirs:\n  - /a\n", "a list"),
        (lambda t: without_key(t, "y"), "x: 1\n", "not set"),
        (lambda t: with_item(t, K, "/n"), "pkgs_dirs: *x\n", "broken"),
        (lambda t: with_item(t, K, "/n"), "x: &a [/a]\npkgs_dirs: *a\n", "not a list"),
        (lambda t: with_item(t, K, "/a", "last"), FULL, "hides it from conda"),
        (
            lambda t: without_item(t, K, "/b"),
            "pkgs_dirs:\n  - /a  #!top\n  - /b\n\n# end\n",
            "hides it from conda",
        ),
        (
            lambda t: without_key(t, "x"),
            "pkgs_dirs:\n  - /a  #!top\nx: 1\n# end\ny: 1\n",
            "hides it from conda",
        ),
    ],
)
def test_what_cannot_be_edited_is_refused_with_its_reason(change, text, words):
    with pytest.raises(ConfigError, match=words):
        change(text)


@pytest.mark.parametrize(
    "text",
    [
        "/a",
        "~/b",
        "$C/d",
        "a b",
        "a: b",
        "#x",
        "",
        "~",
        "null",
        "true",
        "5",
        "[x",
        "C:\\x",
        "ü/é",
        "- x",
        "'",
        '"',
    ],
)
def test_a_quoted_value_is_read_back_as_it_was(text):
    made = with_item("", K, text)
    with pytest.raises(ConfigError, match="no entry"):
        without_item(made, K, text + "?")
    assert without_item(made, K, text) == "pkgs_dirs: []\n"
    assert "\n" not in quoted(text)


_paths = st.sampled_from(["/a", "/b", "~/c", "/d e", "x: y"])


@limits(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["first", "last", "out"]), _paths), max_size=8),
    st.booleans(),
)
def test_any_order_of_edits_gives_the_list_and_keeps_the_rest(edits, flow):
    text = (
        "# one\npkgs_dirs: []  # two\nother: 1  # three\n" if flow else "# one\nother: 1  # three\n"
    )
    expected: list[str] = []
    for how, value in edits:
        if how == "out":
            if value in expected:
                text = without_item(text, K, value)
                expected.remove(value)
            continue
        text = with_item(text, K, value, how)
        expected = [each for each in expected if each != value]
        expected.insert(0 if how == "first" else len(expected), value)
    for word in ("# one", "other: 1  # three"):
        assert word in text
    from pathlib import Path

    from entrepot.tools.conda.condarc import read_yaml

    found = read_yaml(Path("f"), text).lists.get(K)
    assert [item.text for item in found.items] == expected if found else not expected


# -- the settings ----------------------------------------------------------------------------------


@pytest.fixture
def settings(tmp_path):
    return CondaSettings(Surroundings({"PATH": ""}, tmp_path, tmp_path))


def test_a_prepended_cache_is_in_force_and_the_native_command_is_told(settings, tmp_path):
    (tmp_path / ".condarc").write_text(FULL)
    change = settings.set("pkgs_dirs.prepend", "/n")
    assert (change.before, change.after) == ("/a,/b", "/n,/a,/b")
    assert change.native == "conda config --prepend pkgs_dirs /n"
    assert settings.get("pkgs_dirs") == "/a,/n,/b", "the marker still wins"
    diff = [
        line
        for line in difflib.ndiff(
            FULL.splitlines(), (tmp_path / ".condarc").read_text().splitlines()
        )
        if line[0] in "+-"
    ]
    assert diff == ["+   - /n"]


def test_a_list_is_set_and_unset(settings, tmp_path):
    settings.set("pkgs_dirs", "/a, /b")
    assert settings.get("pkgs_dirs") == "/a,/b"
    settings.set("pkgs_dirs", "/c")
    assert (tmp_path / ".condarc").read_text() == "pkgs_dirs:\n  - /c\n"
    settings.set("pkgs_dirs.remove", "/c")
    assert settings.get("pkgs_dirs") == str(tmp_path / ".conda/pkgs")
    assert settings.unset("pkgs_dirs").after is None


def test_an_entry_is_taken_out_of_the_file_that_has_it(settings, tmp_path):
    (tmp_path / ".conda").mkdir()
    (tmp_path / ".conda/.condarc").write_text("pkgs_dirs: [/k]\n")
    change = settings.set("pkgs_dirs.remove", "/k")
    assert change.path == tmp_path / ".conda/.condarc"
    assert "--file" in change.native


def test_mode_and_symbolic_link_of_the_file_are_kept(settings, tmp_path):
    real = tmp_path / "dotfiles"
    real.write_text("x: 1\n")
    real.chmod(0o640)
    (tmp_path / ".condarc").symlink_to(real)
    settings.set("pkgs_dirs.append", "/n")
    assert (tmp_path / ".condarc").is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert "/n" in real.read_text()


def test_what_a_variable_sets_cannot_be_removed_and_says_so(tmp_path):
    settings = CondaSettings(Surroundings({"CONDA_PKGS_DIRS": "/v"}, tmp_path, tmp_path))
    with pytest.raises(ConfigError) as caught:
        settings.unset("pkgs_dirs")
    assert "CONDA_PKGS_DIRS" in caught.value.hint


def test_secrets_are_masked(settings, tmp_path):
    (tmp_path / ".condarc").write_text(
        "channels:\n  - https://me:hunter@channel.test/t/tk-1234/c\nproxy_servers:\n  http: http://u:hunter@p:1\n"
    )
    shown = str(list(settings.items()))
    assert "hunter" not in shown
    assert "tk-1234" not in shown


def test_a_broken_file_is_named_and_left_alone(settings, tmp_path):
    path = tmp_path / ".condarc"
    path.write_text("channels: [x]\npkgs_dirs:\n\t- /a\n")
    ((broken, why),) = settings.problems()
    assert broken == path
    assert why.startswith("3:")
    with pytest.raises(ConfigError, match="line 3") as caught:
        settings.set("pkgs_dirs.prepend", "/n")
    assert caught.value.hint == "entrepot config --tool conda edit"
    assert path.read_text() == "channels: [x]\npkgs_dirs:\n\t- /a\n"


@pytest.mark.parametrize("key", ["pkgs_dir", "pkgs-dirs.prepend", "ssl_verfy"])
def test_a_misspelt_setting_is_refused_with_the_right_one(settings, tmp_path, key):
    with pytest.raises(ConfigError, match="no setting") as caught:
        settings.set(key, "/n")
    assert caught.value.hint in ("pkgs_dirs is one", "ssl_verify is one")
    assert not (tmp_path / ".condarc").exists()


FAKE = """#!/bin/sh
echo '{"pkgs_dirs": ["'"$ANSWER"'"]}'
"""


@pytest.mark.skipif(os.name == "nt", reason="a shell script stands for conda")
@pytest.mark.parametrize(("answer", "differs"), [("/n", False), ("/other", True)])
def test_conda_is_asked_and_its_answer_compared(tmp_path, answer, differs):
    fake = tmp_path / "bin/conda"
    fake.parent.mkdir()
    fake.write_text(FAKE)
    fake.chmod(0o755)
    settings = CondaSettings(
        Surroundings(
            {"PATH": os.environ["PATH"], "CONDA_EXE": str(fake), "ANSWER": answer},
            tmp_path,
            tmp_path,
        )
    )
    change = settings.ask(settings.set("pkgs_dirs.prepend", "/n"))
    assert (change.verified, change.differs) == (answer, differs)


def test_where_no_conda_is_nobody_is_asked(settings):
    assert settings.ask(settings.set("pkgs_dirs.prepend", "/n")).verified == ""


def test_the_variable_of_a_key_is_told(settings):
    variable, change = settings.export("pkgs_dirs", "/a,/b")
    assert (variable, change.after, change.path) == ("CONDA_PKGS_DIRS", "/a,/b", None)
    with pytest.raises(ConfigError):
        settings.export("pkgs_dirs.prepend", "/a")


@pytest.mark.parametrize("there", [True, False], ids=["beside ~/.condarc", "without it"])
def test_a_stronger_file_that_sets_the_key_is_changed_in_place_of_the_usual_one(tmp_path, there):
    if there:
        (tmp_path / ".condarc").write_text("offline: false\n")
    (tmp_path / "mine.yml").write_text("always_copy: true  # why\n")
    environ = {"PATH": "", "CONDARC": "~/mine.yml"}
    settings = CondaSettings(Surroundings(environ, tmp_path, tmp_path))
    assert settings.set("always_copy", "false").path == tmp_path / "mine.yml"
    assert settings.set("offline", "true").path == tmp_path / ".condarc"


# -- mamba -----------------------------------------------------------------------------------------


def test_mambas_own_file_is_edited_and_its_list_is_in_force(tmp_path):
    (tmp_path / ".condarc").write_text("pkgs_dirs: [/c]\n")
    settings = MambaSettings(Surroundings({"PATH": ""}, tmp_path, tmp_path))
    change = settings.set("pkgs_dirs.prepend", "/m")
    path = tmp_path / ".mambarc"
    assert (change.path, path.read_text()) == (path, "pkgs_dirs:\n  - /m\n")
    assert change.native == f"mamba config prepend pkgs_dirs /m --file {path}"
    assert settings.get("pkgs_dirs") == "/m,/c"


def test_what_a_stronger_file_of_mambas_says_is_changed_there(tmp_path):
    (tmp_path / "rc.yml").write_text("always_copy: true  # why\n")
    settings = MambaSettings(
        Surroundings({"PATH": "", "MAMBARC": f"{tmp_path}/rc.yml"}, tmp_path, tmp_path)
    )
    assert settings.set("always_copy", "false").path == tmp_path / "rc.yml"
    assert (tmp_path / "rc.yml").read_text() == "always_copy: false  # why\n"
    assert settings.get("always_copy") == "false"
