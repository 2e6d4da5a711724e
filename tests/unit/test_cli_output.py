"""What is written, where, and how it looks."""

import errno
import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from entrepot.caches.records import rfc3339
from entrepot.cli.output import (
    Encoded,
    Meter,
    Output,
    encoded,
    exit_status,
    explained,
    wants_color,
)
from entrepot.errors import (
    Busy,
    ConfigError,
    EntrepotError,
    InvalidHead,
    StoreFull,
    StoreUnavailable,
    UpstreamTimeout,
    UsageError,
)


class Screen(io.StringIO):
    """A text stream that may claim to be a terminal, in some encoding."""

    def __init__(self, *, terminal=False, encoding="utf-8"):
        super().__init__()
        self.terminal = terminal
        self._encoding = encoding

    @property
    def encoding(self):
        return self._encoding

    def isatty(self):
        return self.terminal


def make(environ=None, *, terminal=False, encoding="utf-8", **options):
    out, err = (
        Screen(terminal=terminal, encoding=encoding),
        Screen(terminal=terminal, encoding=encoding),
    )
    return Output(out, err, environ or {}, **options), out, err


@pytest.mark.parametrize(
    ("choice", "terminal", "environ", "wanted"),
    [
        ("auto", True, {}, True),
        ("auto", False, {}, False),
        ("auto", True, {"NO_COLOR": "1"}, False),
        ("auto", True, {"NO_COLOR": ""}, True),
        ("auto", False, {"FORCE_COLOR": "1"}, True),
        ("auto", False, {"CLICOLOR_FORCE": "1"}, True),
        ("auto", False, {"CLICOLOR_FORCE": "0"}, False),
        ("auto", True, {"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        ("auto", True, {"CLICOLOR": "0"}, False),
        ("auto", True, {"TERM": "dumb"}, False),
        ("always", False, {"NO_COLOR": "1"}, True),
        ("never", True, {"FORCE_COLOR": "1"}, False),
    ],
)
def test_colour_follows_the_flag_then_the_variables_then_the_terminal(
    choice, terminal, environ, wanted
):
    assert wants_color(choice, terminal, environ) is wanted


def test_a_table_in_a_pipe_is_plain_and_never_shortened():
    out, stdout, _ = make({"COLUMNS": "20"})
    out.table(("NAME", ">SIZE"), [["a" * 60, "1 B"], ["b", "12 MB"]])
    assert stdout.getvalue().splitlines() == [
        f"NAME{' ' * 56}   SIZE",
        f"{'a' * 60}    1 B",
        f"b{' ' * 59}  12 MB",
    ]


def test_a_table_on_a_narrow_terminal_is_shortened_in_its_widest_column():
    out, stdout, _ = make({"COLUMNS": "30", "NO_COLOR": "1"}, terminal=True)
    out.table(("WHERE", ">SIZE"), [["/a/very/long/path/to/some/cache", "12 MB"]])
    lines = stdout.getvalue().splitlines()
    assert max(map(len, lines)) == 30
    assert lines[1].startswith("/a/very..")
    assert lines[1].endswith("cache  12 MB")


def test_no_control_character_of_a_name_reaches_the_terminal():
    out, stdout, _ = make()
    out.table(("NAME",), [["evil\x1b[31m\nname"]])
    assert "\x1b" not in stdout.getvalue()
    assert len(stdout.getvalue().splitlines()) == 2


def test_output_that_is_not_utf_8_is_ascii():
    out, stdout, _ = make(encoding="iso-8859-1")
    out.line("caf\u00e9 \u2026")
    assert stdout.getvalue() == "caf? ...\n"


def test_a_file_name_that_is_no_text_can_be_written():
    out, stdout, _ = make()
    out.line("x\udcff")
    assert stdout.getvalue() == "x?\n"


def test_json_replaces_the_text_and_holds_the_warnings():
    out, stdout, stderr = make(as_json=True, command="status")
    out.line("text")
    out.table(("A",), [["b"]])
    out.warn("unknown-key", "a warning", "a fix")
    out.document(size=3)
    assert json.loads(stdout.getvalue()) == {
        "schema": 1,
        "command": "status",
        "size": 3,
        "warnings": [{"id": "unknown-key", "text": "a warning", "fix": "a fix"}],
    }
    assert stderr.getvalue() == ""


def test_only_a_command_that_repairs_is_called_a_fix():
    out, _, stderr = make()
    out.error(ConfigError("what and why", hint="look there", fix="entrepot config --mend"))
    out.warn("a", "odd", "entrepot clean")
    out.warn("b", "odd", hint="did you mean 'store'?")
    assert [line for line in stderr.getvalue().splitlines() if "odd" not in line][1:] == [
        "fix: entrepot config --mend",
        "fix: entrepot clean",
        "hint: did you mean 'store'?",
    ]
    as_json, stdout, _ = make(as_json=True, command="list")
    as_json.error(ConfigError("what", fix="entrepot config --mend"))
    assert json.loads(stdout.getvalue())["error"]["fix"] == "entrepot config --mend"


def test_an_error_is_a_sentence_and_a_hint_on_stderr():
    out, stdout, stderr = make()
    assert out.error(UsageError("what and why", hint="entrepot --help")) == 2
    assert stderr.getvalue() == "error: what and why\nhint: entrepot --help\n"
    assert stdout.getvalue() == ""


def test_an_error_in_json_is_an_object_too():
    out, stdout, _ = make(as_json=True, command="list")
    out.error(Busy("locked"))
    assert json.loads(stdout.getvalue())["error"] == {"id": "busy", "text": "locked", "fix": ""}


@pytest.mark.parametrize(
    ("exc", "status"),
    [
        (UsageError("x"), 2),
        (ConfigError("x", source="ENTREPOT_LIMIT"), 1),
        (ConfigError("x", source="--store"), 2),
        (StoreUnavailable("x"), 1),
        (StoreFull("x"), 5),
        (Busy("x"), 4),
        (InvalidHead("x"), 1),
        (OSError(errno.ENOSPC, "full"), 5),
        (OSError(errno.EDQUOT, "quota"), 5),
        (OSError(errno.EACCES, "denied"), 1),
        (EOFError(), 2),
        (KeyboardInterrupt(), 130),
        (RuntimeError("x"), 1),
    ],
    ids=repr,
)
def test_each_error_has_its_exit_status(exc, status):
    assert exit_status(exc) == status


def test_an_upstream_error_names_its_url_once():
    assert (
        explained(UpstreamTimeout("no answer", url="https://index.test/"))[1]
        == "no answer (https://index.test/)"
    )
    assert (
        explained(UpstreamTimeout("https://index.test/: no answer", url="https://index.test/"))[
            1
        ].count("index.test")
        == 1
    )


def test_every_error_of_the_tree_has_an_id_of_its_own():
    def below(cls):
        return [each for sub in cls.__subclasses__() for each in (sub, *below(sub))]

    references = [cls.reference for cls in below(EntrepotError) if "reference" in vars(cls)]
    assert len(set(references)) == len(references)
    assert all(reference == reference.lower() and " " not in reference for reference in references)


def test_an_unforeseen_error_is_called_a_bug_and_says_how_to_see_more():
    ident, text, fix = explained(ZeroDivisionError("division by zero"))
    assert (ident, "--debug" in fix) == ("bug", True)
    assert "ZeroDivisionError" in text


def test_quiet_leaves_out_notes_and_hints_but_no_data_and_no_warning():
    out, stdout, stderr = make(quiet=1)
    out.note("note")
    out.hint("hint")
    out.line("data")
    out.warn("w", "warning")
    out.say("what was missing")
    assert stdout.getvalue() == "data\n"
    assert stderr.getvalue() == "warning: warning\nwhat was missing\n"


def test_a_question_is_not_asked_where_nobody_can_answer():
    out, _, stderr = make()
    with pytest.raises(UsageError) as caught:
        out.confirm("Continue?")
    assert "--yes" in caught.value.hint
    assert stderr.getvalue() == ""


@pytest.mark.parametrize(
    ("answer", "yes"), [("y", True), ("YES ", True), ("", False), ("n", False), ("yep", False)]
)
def test_only_a_clear_yes_is_one(answer, yes, monkeypatch):
    out, _, _ = make(terminal=True)
    monkeypatch.setattr("sys.stdin", Screen(terminal=True))
    monkeypatch.setattr("builtins.input", lambda: answer)
    assert out.confirm("Continue?") is yes


@pytest.mark.parametrize("ended", [EOFError(), KeyboardInterrupt()], ids=["end", "interrupt"])
def test_what_follows_a_question_that_was_not_answered_starts_on_a_line_of_its_own(
    ended, monkeypatch
):
    out, _, stderr = make(terminal=True)
    monkeypatch.setattr("sys.stdin", Screen(terminal=True))

    def leave():
        raise ended

    monkeypatch.setattr("builtins.input", leave)
    with pytest.raises(type(ended)):
        out.confirm("Continue?")
    assert stderr.getvalue() == "Continue? [y/N] \n"


def test_the_home_directory_is_shown_as_a_tilde(tmp_path):
    out, _, _ = make()
    assert out.place(tmp_path / "x", tmp_path) == "~/x"
    assert out.place(tmp_path, tmp_path) == "~"
    assert out.place(tmp_path.with_name(tmp_path.name + "2"), tmp_path) == str(tmp_path) + "2"


@pytest.mark.parametrize("path", ["/", "/.cache/pip", "/tmp"])
def test_a_home_of_the_root_as_containers_have_it_is_no_tilde(path):
    assert make()[0].place(Path(path), Path("/")) == path


def test_progress_appears_after_a_second_and_is_wiped(monkeypatch):
    moments = iter([0.0, 0.5, 1.1, 1.15, 1.3])
    clock = SimpleNamespace(
        monotonic=lambda: next(moments)
    )  # the module's own: all the world's would be the test runner's too
    monkeypatch.setattr("entrepot.cli.output.time", clock)
    screen = Screen(terminal=True)
    meter = Meter(screen)
    meter(1, 10, "entries")
    assert screen.getvalue() == ""
    meter(1_000_000_000, 4_000_000_000, "bytes")
    assert screen.getvalue() == "\r1.0 GB of 4.0 GB, 25 %"
    meter(2_000_000_000, 4_000_000_000, "bytes")
    assert "50" not in screen.getvalue()
    meter(3, None, "entries")
    assert screen.getvalue().endswith("\r" + "3 entries".ljust(22))
    meter.close()
    assert screen.getvalue().endswith("\r")


@pytest.mark.parametrize(
    "options", [{"quiet": 1}, {"progress": False}], ids=["quiet", "--no-progress"]
)
def test_no_progress_where_it_is_not_wanted(options):
    out, _, _ = make(terminal=True, **options)
    assert out.meter()._stream is None


def test_progress_is_shown_on_a_terminal_alone():
    assert make(terminal=False)[0].meter()._stream is None
    assert make({"TERM": "dumb"}, terminal=True)[0].meter()._stream is None
    assert make(terminal=True)[0].meter()._stream is not None


def test_times_are_rfc_3339_in_utc():
    assert rfc3339(0) == "1970-01-01T00:00:00Z"
    assert rfc3339(None) is None


def test_what_is_json_already_stands_a_line_each_and_the_rest_is_indented():
    out, written, _ = make(command="list", as_json=True)
    out.document(
        entries=Encoded([encoded({"a": [1, "é\n"]}), encoded({"b": None})]),
        total={"size": 3},
        none=Encoded(),
    )
    assert written.getvalue().splitlines()[3:10] == [
        '  "entries": [',
        '    {"a": [1, "\\u00e9\\n"]},',
        '    {"b": null}',
        "  ],",
        '  "total": {',
        '    "size": 3',
        "  },",
    ]
    assert json.loads(written.getvalue())["none"] == []


def test_on_a_narrow_terminal_words_are_cut_between_words_and_the_widest_columns_give_way_in_turn():
    out, stdout, _ = make({"COLUMNS": "44", "NO_COLOR": "1"}, terminal=True)
    columns = ("PROJECT", ">SIZE", "USED BY")
    row = (
        "a-project-with-a-very-long-name-indeed",
        "12 MB",
        "1 other environment of somebody else",
    )
    assert not out.fits(columns, [[cell] for cell in row])
    out.table(columns, [row])
    assert stdout.getvalue().splitlines()[1] == "a-p..-indeed  12 MB  1 other environment.."


def test_lines_below_each_other_hold_no_control_character():
    out, stdout, _ = make()
    out.blocks([["a\x1b[31m", "b\nc"], ["d"]])
    assert stdout.getvalue() == "a?[31m\n    b?c\nd\n"
