"""A command taken apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrepot.ports.client_setup import Command
from entrepot.ports.tool import Surroundings
from entrepot.tools.client_setup.command_line import CommandLine, program_name, values_after


def line(*argv, cwd=Path("/nowhere"), **environ):
    return CommandLine(Command(argv, Surroundings(environ, cwd, cwd)))


def test_a_string_that_is_a_command_line_is_taken_apart_in_place():
    words = line("sh", "-c", "cd x && pip install -i 'https://a.test/s'", "last").words
    assert words[3:5] == ("cd", "x")
    assert "https://a.test/s" in words
    assert words[-1] == "last"


def test_strings_inside_strings_are_taken_apart_too():
    assert "https://a.test/s" in line("sh", "-c", "sh -c \"pip -i 'https://a.test/s'\"").words


def test_a_plain_sentence_stays_one_word():
    assert line("git", "commit", "-m", "say what changed").words[3:] == ("say what changed",)


def test_an_unbalanced_quote_stops_nothing():
    assert "https://a.test" in line("sh", "-c", "pip -i https://a.test 'x").words


def test_variables_of_the_words_come_after_those_of_the_environment():
    parts = line("env", "PIP_INDEX_URL=b", "pip", PIP_INDEX_URL="a")
    assert list(parts.variable("PIP_INDEX_URL")) == ["a", "b"]
    assert parts.environ["PIP_INDEX_URL"] == "b"


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("pip3.11", "pip"),
        ("/a/b/python", "python"),
        ("C:\\x\\PIP.EXE", "pip"),
        ("-mpip", "pip"),
        ("uvx", "uvx"),
        ("python3-3.12", "python3"),
    ],
)
def test_a_program_is_known_without_path_and_version(word, name):
    assert program_name(word) == name


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (("--cert", "a"), ["a"]),
        (("--cert=a",), ["a"]),
        (("--certain", "a"), []),
        (("-c", "a", "-cb", "-c=d"), ["a", "b", "d"]),
        (("--cert",), []),
        (("--cert=",), [""]),
    ],
)
def test_values_of_options_are_found_in_every_spelling(words, values):
    assert list(values_after(words, "--cert", "-c")) == values


def test_directories_to_work_in_are_those_the_words_name(tmp_path):
    for name in ("a", "b", "c/d"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "c/d/pyproject.toml").touch()
    roots = line(
        "sh", "-c", "cd a && make -C b; pip install -e ./c/d[x] --directory=missing", cwd=tmp_path
    ).roots
    assert set(roots) == {tmp_path, tmp_path / "a", tmp_path / "b", tmp_path / "c/d"}


def test_flags_belong_to_the_program_before_them():
    parts = line("sudo", "-E", "pip", "--cert", "x")
    assert parts.after("pip") == ("--cert", "x")
    assert parts.after("curl") == ()
