"""The reference documents every command, option, setting, variable, exit status and member of the JSON; all of them have help."""

import argparse
import importlib
import re
from pathlib import Path

import pytest

from entrepot.caches.inventory import GROUPS
from entrepot.caches.records import (
    change_record,
    entry_record,
    finding_record,
    place_record,
    sum_record,
)
from entrepot.cli import output
from entrepot.cli.main import COMMANDS, build_parser, build_top_parser
from entrepot.config.settings import KEYS, KINDS
from entrepot.ports.tool import Change, Entry, Finding, Kind, Place, Sum

DOCS = Path(__file__).parents[1] / "docs"
REFERENCE = DOCS / "reference"


def read(name):
    return (REFERENCE / f"{name}.md").read_text(encoding="utf-8")


def sections(text):
    """Heading -> text below it."""
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def parser_of(command):
    return build_parser(command, importlib.import_module(command.module))


def actions(parser):
    return [action for action in parser._actions if action.help is not argparse.SUPPRESS]


def shared_options():
    return {option for action in actions(build_top_parser()) for option in action.option_strings}


BY_NAME = pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)


@BY_NAME
def test_every_command_is_documented_with_each_of_its_options(command):
    section = sections(read("commands"))[command.name]
    for action in actions(parser_of(command)):
        for option in action.option_strings:
            if option not in shared_options():
                assert f"`{option}" in section, option
        if not action.option_strings and action.choices is None:
            names = re.findall(r"[A-Z]+", action.metavar or action.dest.upper())
            assert any(f"`{name}`" in section for name in names), action.dest


@BY_NAME
def test_no_option_is_documented_that_does_not_exist(command):
    section = sections(read("commands"))[command.name]
    known = {option for action in actions(parser_of(command)) for option in action.option_strings}
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `-")]
    documented = {option for row in rows for option in re.findall(r"`(--?[a-z-]+)", row)}
    assert documented <= known


@BY_NAME
def test_every_command_and_every_option_has_help(command):
    parser = parser_of(command)
    assert command.help
    assert (parser.description or "").endswith(".")
    for action in actions(parser):
        assert action.help, action
        assert not action.help.endswith("."), action.help


@BY_NAME
def test_a_verb_of_a_command_is_documented(command):
    section = sections(read("commands"))[command.name]
    for action in actions(parser_of(command)):
        for choice in action.choices or () if not action.option_strings else ():
            assert f" {choice}" in section


def test_the_options_of_every_command_are_documented():
    section = sections(read("commands"))["Options of every command"]
    for option in shared_options():
        assert f"`{option}" in section, option


def test_no_command_is_documented_that_does_not_exist():
    headings = set(sections(read("commands"))) - {
        "Options of every command",
        "Sizes, ages and patterns",
    }
    assert headings == {command.name for command in COMMANDS}


def test_every_kind_of_entry_is_documented():
    text = sections(read("commands"))["Sizes, ages and patterns"]
    assert [kind for kind in Kind if f"`{kind}`" not in text] == []


def test_every_setting_is_documented_with_its_variable_in_both_places():
    rows = [line for line in read("configuration").splitlines() if line.startswith("| `")]
    assert [re.findall(r"`([^`]+)`", row)[:2] for row in rows] == [
        [key.name, key.variable] for key in KEYS
    ]
    environment = read("environment")
    for key in KEYS:
        assert f"| `{key.variable}` | `{key.name}` |" in environment
        assert key.kind in KINDS


def test_every_variable_that_the_command_line_reads_is_documented():
    source = Path(output.__file__).parents[1]
    folders = (source, source / "cli", source / "config")
    files = [file for folder in folders for file in folder.glob("*.py")]
    pattern = r"\b(?:ENTREPOT_[A-Z]+|[A-Z_]*COLOR[A-Z_]*)\b(?=\")"
    named = {name for file in files for name in re.findall(pattern, file.read_text("utf-8"))}
    assert {"ENTREPOT_CONFIG", "NO_COLOR"} <= named
    environment = read("environment")
    assert [name for name in sorted(named) if f"`{name}`" not in environment] == []


def test_every_exit_status_is_documented():
    rows = re.findall(r"^\| (\d+) \|", read("exit-codes"), flags=re.MULTILINE)
    statuses = (
        output.DONE,
        output.FAILED,
        output.USAGE,
        output.PARTLY,
        output.BUSY,
        output.NO_SPACE,
        output.INTERRUPTED,
    )
    assert [int(row) for row in rows] == list(statuses)


def test_every_member_of_the_shared_json_objects_is_documented():
    text = read("json")
    entry = Entry("pip", Path("/c"), "k", Kind.WHEEL, 1, 1, 1, 1)
    place = Place("pip", None, ())
    records = (
        entry_record(entry),
        sum_record(Sum()),
        place_record(place),
        finding_record(Finding("pip", None, "p", "t")),
        change_record(Change(None, "k", None, None, "n")),
    )
    for record in records:
        for member in record:
            assert f"`{member}`" in text, member
    for group in GROUPS:
        assert f"`{group}`" in text


def test_every_command_has_its_json_documented():
    headings = " ".join(sections(read("json")))
    assert [command.name for command in COMMANDS if command.name not in headings] == []


def test_the_schema_of_the_json_is_the_documented_one():
    assert f"`schema` is {output.SCHEMA}." in read("json")


def targets(file):
    """What a page links to, without what is elsewhere."""
    found = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", file.read_text(encoding="utf-8"))
    return [file.parent / target for target in found if "://" not in target]


def test_links_within_the_documentation_lead_somewhere():
    for file in DOCS.rglob("*.md"):
        assert [target for target in targets(file) if not target.exists()] == [], file.name


def test_files_that_a_page_names_are_there():
    named = re.compile(r"\b(?:src/entrepot|tests|bench|docs)/[\w/]+(?:\.\w+|/)")
    for file in DOCS.rglob("*.md"):
        paths = set(named.findall(file.read_text(encoding="utf-8")))
        assert [path for path in paths if not (DOCS.parent / path).exists()] == [], file.name


def test_every_page_is_listed():
    """In README.md; decisions at least on the site, where a pattern lists them."""
    assert "   decisions/*\n" in (DOCS / "index.rst").read_text(encoding="utf-8")
    listed = {target.resolve() for target in targets(DOCS / "README.md")} | {DOCS / "decisions"}
    pages = {page.resolve() for page in DOCS.rglob("*.md")} - {(DOCS / "README.md").resolve()}
    assert {page for page in pages if page not in listed and page.parent not in listed} == set()


def test_the_example_of_a_configuration_file_is_one(tmp_path):
    from entrepot.config.settings import load_settings
    from entrepot.ports.tool import Surroundings

    (example,) = re.findall(r"```toml\n(.*?)```", read("configuration"), flags=re.DOTALL)
    (tmp_path / "c.toml").write_text(example)
    environ = {
        "ENTREPOT_CONFIG": str(tmp_path / "c.toml"),
        "XDG_CONFIG_DIRS": str(tmp_path / "site"),
    }
    settings = load_settings(Surroundings(environ, tmp_path, tmp_path))
    assert settings.complaints == ()
    assert settings.limit_total == 60_000_000_000
