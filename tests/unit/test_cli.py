"""The commands over tools that are lists, called as a process would call them but without one."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from entrepot.caches.inventory import cache_total
from entrepot.cli import main as cli
from entrepot.cli import wiring
from entrepot.cli.main import COMMANDS, main, parse, split
from entrepot.cli.output import Output
from entrepot.config.settings import KEYS
from entrepot.errors import StoreUnavailable, UsageError
from entrepot.ports.tool import ORPHANED, Block, BlockedBy, Finding, Kind, Place
from entries import FakeSettings, FakeTool, entry


@pytest.fixture
def tools(monkeypatch, tmp_path):
    """The tools that the command line finds.

    Entries were used at the same moment as ``entries.NOW`` says.
    """
    mine = [
        FakeTool(
            "pip",
            [
                entry("demo", "1.0", days=200),
                entry("demo", "2.0", days=1),
                entry("other", "1.0", kind=Kind.BUILT, days=1),
            ],
        ),
        FakeTool(
            "uv",
            [
                entry(
                    "demo",
                    "2.0",
                    tool="uv",
                    place=Path("/c/uv"),
                    removable_because="old layout",
                    key="l",
                )
            ],
            path="/c/uv",
        ),
    ]

    def find(settings, around, names=(), progress=None):
        by_name = {tool.name: tool for tool in mine}
        for name in names:
            if name not in by_name:
                raise UsageError(f"unknown tool {name!r}")
        return [by_name[name] for name in names or by_name]

    monkeypatch.setattr(wiring, "tools", find)
    monkeypatch.setattr("entrepot.cli.context.time.time", lambda: 1_800_000_000.0)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (
        "XDG_CONFIG_HOME",
        "XDG_CACHE_HOME",
        "NO_COLOR",
        "FORCE_COLOR",
        *(key.variable for key in KEYS),
        "ENTREPOT_CONFIG",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "site"))
    return mine


@pytest.fixture
def run(tools, capsys):
    """Run the command line; its exit status, stdout and stderr."""

    def run(*argv):
        status = main(argv)
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def as_json(said):
    status, out, _ = said
    return status, json.loads(out)


# -- finding the command


@pytest.mark.parametrize(
    ("argv", "word", "rest"),
    [
        ([], None, []),
        (["list", "x"], "list", ["x"]),
        (["--json", "list", "x"], "list", ["--json", "x"]),
        (["--tool", "pip", "list"], "list", ["--tool", "pip"]),
        (["--tool=pip", "list"], "list", ["--tool=pip"]),
        (["--store", "list", "where"], "where", ["--store", "list"]),
        (["run", "--", "list"], "run", ["--", "list"]),
        (["--", "list"], None, ["--", "list"]),
    ],
)
def test_the_command_is_the_first_word_that_is_no_options_value(argv, word, rest):
    assert split(argv) == (word, rest)


def test_without_a_command_it_is_status():
    assert parse([])[0].name == "status"
    assert parse(["--tool", "pip,uv", "--tool", "conda"])[2].tool == ["pip", "uv", "conda"]


@pytest.mark.parametrize(
    ("alias", "name"), [("prune", "clean"), ("gc", "clean"), ("purge", "clean")]
)
def test_other_tools_words_for_clean_are_understood(alias, name):
    command, _, args = parse([alias])
    assert (command.name, args.all) == (name, alias == "purge")


@pytest.mark.parametrize(
    ("argv", "child"),
    [
        (
            ["run", "--offline", "--", "pip", "install", "--json", "x"],
            ["pip", "install", "--json", "x"],
        ),
        (["run", "pip", "install", "-r", "x"], ["pip", "install", "-r", "x"]),
        (["run", "--", "sh", "-c", "a -- b", "--", "c"], ["sh", "-c", "a -- b", "--", "c"]),
        (["run", "pip", "--", "x"], ["pip", "--", "x"]),
        (["--store", "d", "run", "--", "run"], ["run"]),
    ],
)
def test_what_run_runs_is_left_as_it_is(argv, child):
    _, _, args = parse(argv)
    assert args.child == child
    assert args.json is False


def test_an_unknown_command_names_the_nearest(run):
    status, _, err = run("lits")
    assert status == 2
    assert err == "error: unknown command 'lits'\nhint: did you mean `entrepot list`?\n"


def test_an_unknown_option_is_a_usage_error_that_points_to_the_help(run):
    status, _, err = run("list", "--frobnicate")
    assert status == 2
    assert "hint: entrepot list --help" in err


def test_help_and_version_exit_0(run):
    status, out, _ = run("--help")
    assert status == 0
    assert all(f"  {command.name} " in out for command in COMMANDS)
    assert run("clean", "--help")[0] == 0
    assert run("--version")[1].startswith("entrepot ")


# -- see


def test_status_shows_every_cache_the_most_freeable_first_with_a_total(run):
    status, out, err = run("status")
    assert status == 0
    rows = out.splitlines()
    assert rows[0].split() == ["CACHE", "WHERE", "SIZE", "FREEABLE", "FILES", "LAST", "USED", "CAP"]
    assert rows[1].split() == ["pip", "/c/pip", "37", "kB", "37", "kB", "6", "1", "d", "ago", "-"]
    assert rows[2].startswith("uv")
    assert rows[3].split()[:3] == ["total", "49", "kB"]
    assert "! uv: old layout (12 kB)      entrepot clean --tool uv" in rows
    assert err == ""


def test_status_as_json_has_bytes_and_times(run):
    status, said = as_json(run("status", "--json", "--tool", "pip"))
    assert status == 0
    (cache,) = said["caches"]
    assert (said["schema"], said["command"], cache["path"], cache["disk"]) == (
        1,
        "status",
        "/c/pip",
        36_864,
    )
    assert cache["last_used"] == "2027-01-14T08:00:00Z"
    assert cache["groups"]["built"]["entries"] == 1
    assert cache["notes"] == ["a trap"]
    assert said["warnings"] == []


def test_a_cache_that_cannot_be_read_is_named_and_the_others_are_shown(run, tools):
    tools[0].trouble = StoreUnavailable("it is on fire")
    status, out, err = run("status")
    assert status == 3
    assert "pip: it is on fire" in err
    assert "uv" in out


def test_a_cache_that_its_tool_would_not_use_is_warned_of(run, tools):
    place = replace(
        tools[0].places(SimpleNamespace(home=Path("/h")))[0],
        usable=False,
        why_not="it belongs to somebody else",
    )
    tools[0].places = lambda around: [place]
    assert "warning: pip: /c/pip: it belongs to somebody else" in run("status")[2]


def test_where_shows_what_wins_and_what_is_not_used(run, tmp_path):
    status, out, _ = run("where", "pip")
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == "pip   /c/pip   in use"
    assert lines[1].split() == ["1", "/c/pip", "PIP_CACHE_DIR", "<-", "wins"]
    assert lines[2].split() == ["2", "~/.cache/pip", "default", "not", "used"]
    assert "  ! a trap" in lines
    assert "uv" not in out


def test_where_names_the_line_of_the_shells_file_that_sets_a_variable(run, tmp_path):
    (tmp_path / ".profile").write_text("# mine\nexport PIP_CACHE_DIR=/c/pip\n")
    assert (
        "PIP_CACHE_DIR                    <- wins (set in ~/.profile:2)" in run("where", "pip")[1]
    )
    _, said = as_json(run("where", "pip", "--json"))
    assert said["places"][0]["layers"][0]["note"] == f"set in {tmp_path}/.profile:2"


def test_where_with_path_prints_the_path_alone(run, tools):
    assert run("where", "pip", "--path") == (0, "/c/pip\n", "")
    tools[0].places = lambda around: []
    assert run("where", "pip", "--path")[0] == 1


def test_list_picks_sorts_and_sums_up(run):
    status, out, _ = run("list", "demo>=2", "--tool", "pip,uv")
    assert status == 0
    lines = out.splitlines()
    assert [line.split()[:4] for line in lines[1:3]] == [
        ["demo", "2.0", "wheel", "pip"],
        ["demo", "2.0", "wheel", "uv"],
    ]
    assert lines[3] == "25 kB in 2 entries, 25 kB freeable"


def test_list_marks_what_is_unproven(run, tools):
    tools[0].entries = [entry(trust="unproven")]
    assert "wheel*" in run("list", "--tool", "pip")[1]


def test_list_with_v_shows_file_names_and_what_is_known_of_them(run, tools):
    url = "https://index.test/demo-2.0-py3-none-any.whl"
    tools[0].entries = [
        entry("demo", "2.0", state="fresh", trust="proven", certainty="proven", origin=url),
        entry(
            None, None, filename=None, key=f"http-v2/a/b/c/d/e/abcde{'0' * 51}.tmp", kind=Kind.TEMP
        ),
        entry(
            None,
            None,
            filename=None,
            kind=Kind.OTHER,
            extra={"location": "https://index.test/simple/demo/"},
        ),
    ]
    rows = [
        re.split(r"  +", line) for line in run("list", "-v", "--tool", "pip")[1].splitlines()[1:-1]
    ]
    assert [rows[0][0], rows[0][1], *rows[0][4:]] == [
        "demo-2.0-py3-none-any.whl",
        "wheel",
        "fresh",
        "verified",
        "certain",
        url,
    ]
    assert {row[0] for row in rows[1:]} == {
        "http-v2/abcde0000000...tmp",
        "redirect to https://index.test/simple/demo/",
    }


def test_list_on_a_terminal_of_80_columns_cuts_no_word_and_no_origin(run, tools, monkeypatch):
    url = f"https://index.test/packages/{'ab/' * 20}demo-2.0-cp311-cp311-manylinux_2_17_x86_64.whl"
    links = entry(
        "demonstration-of-names", "2.0.1", used_by=("1 other environment (hard links)",), tool="uv"
    )
    tools[0].entries, tools[1].entries = (
        [entry("demo", "2.0", state="fresh", trust="proven", certainty="proven", origin=url)],
        [links],
    )
    monkeypatch.setattr(Output, "width", lambda _: 80)
    assert [line.split("  ")[-1].strip() for line in run("list")[1].splitlines()[1:3]] == [
        "-",
        "1 other environment",
    ]
    assert run("list", "-v", "demo")[1].splitlines()[:3] == [
        "demo-2.0-py3-none-any.whl",
        "    wheel, 12 kB, last used today, fresh, checksum verified, name certain",
        f"    {url}",
    ]


def test_list_says_nothing_of_a_last_use_that_is_not_known(run, tools):
    tools[0].entries, tools[1].entries = [entry("demo", "1.0", days=None)], []
    assert run("list")[1].splitlines()[1].split() == [
        "demo",
        "1.0",
        "wheel",
        "pip",
        "12",
        "kB",
        "-",
        "-",
    ]
    assert ", last used -" not in run("list", "-v")[1]


def test_list_with_v_counts_one_entry_as_one(run, tools):
    tools[0].entries, tools[1].entries = [entry("demo", "1.0")], []
    assert "12 kB in 1 entry, 12 kB freeable" in run("list", "-v")[1]


def test_list_exits_1_when_patterns_match_nothing_and_0_when_there_is_nothing(run, tools):
    assert run("list", "nosuch")[0] == 1
    for tool in tools:
        tool.entries = []
    assert run("list")[0] == 0


def test_list_as_json_is_whole_entries(run):
    status, said = as_json(run("list", "--json", "other", "--built"))
    assert status == 0
    assert [(e["project"], e["kind"], e["size"]) for e in said["entries"]] == [
        ("other", "built", 10_000)
    ]
    assert said["total"]["entries"] == 1


def test_list_shows_versions_and_duplicates(run):
    assert run("list", "--versions", "demo")[1].splitlines()[1].split()[:3] == ["demo", "2", "2.0"]
    out = run("list", "--duplicates")[1].splitlines()
    assert out[1].split() == ["demo-2.0-py3-none-any.whl", "2", "12", "kB", "pip,", "uv"]
    assert as_json(run("list", "--json", "--duplicates"))[1]["duplicates"][0]["wasted"] == 12_288


@pytest.mark.parametrize("argv", [["--kind", "thing"], ["--older", "90"], ["a b"]])
def test_list_refuses_what_it_does_not_understand(run, argv):
    assert run("list", *argv)[0] == 2


# -- free


def test_a_dry_run_shows_the_plan_and_changes_nothing(run, tools):
    status, out, _ = run("clean", "--older", "90d", "-n")
    assert status == 0
    assert out.splitlines() == [
        "Would remove",
        "  pip  downloads unused for 90 days         2 files     12 kB",
        "  uv   old layout                           2 files     12 kB",
        "Frees 25 kB. To get it back: 10 kB download.",
        "Nothing changed: this was a dry run. Run without --dry-run to do it.",
    ]
    assert [len(tool.entries) for tool in tools] == [3, 1]


def test_without_a_terminal_and_without_yes_nothing_is_removed_and_the_status_is_2(run, tools):
    status, out, err = run("clean")
    assert status == 2
    assert "To remove" in out
    assert "--yes" in err
    assert len(tools[1].entries) == 1


def test_with_yes_it_is_done_and_what_was_freed_is_said(run, tools):
    status, out, _ = run("clean", "--yes")
    assert status == 0
    assert out.splitlines()[-1] == "Freed 12 kB (2 files)"
    assert tools[1].entries == []
    assert len(tools[0].entries) == 3


def test_the_setting_yes_does_without_asking_too(run, tools, monkeypatch):
    monkeypatch.setenv("ENTREPOT_YES", "1")
    assert run("clean")[0] == 0
    assert tools[1].entries == []


def test_what_had_to_stay_makes_the_status_3(run, tools):
    tools[1].kept, tools[1].is_permitted = {"l": "no permission"}, False
    status, _, err = run("clean", "-y")
    assert status == 3
    assert "no permission" in err


def test_what_came_into_use_meanwhile_stays_and_is_no_failure(run, tools):
    tools[1].kept = {"l": "an installation began to link to it"}
    status, _, err = run("clean", "-y")
    assert status == 0
    assert "an installation began to link to it" in err


def test_nothing_to_clean_is_done(run, tools):
    tools[1].entries = []
    assert run("clean") == (
        0,
        "Nothing to clean: no superseded layout, stale temporary file, orphan or expired page.\n",
        "",
    )


def test_clean_as_json_wants_yes_or_a_dry_run(run):
    assert run("clean", "--json")[0] == 2
    status, said = as_json(run("clean", "--json", "-n"))
    assert (status, said["dry_run"], said["freed"]) == (0, True, 12_288)
    status, said = as_json(run("clean", "--json", "-y"))
    assert (status, said["dry_run"], said["freed"], len(said["removed"])) == (0, False, 12_288, 1)


@pytest.mark.parametrize("argv", [["--to", "much"], ["--older", "old"], ["--keep-latest", "-1"]])
def test_clean_refuses_what_it_does_not_understand(run, argv):
    assert run("clean", *argv)[0] == 2


def test_remove_takes_what_matches_in_every_tool(run, tools):
    status, out, _ = run("remove", "demo==2.*", "-y")
    assert status == 0
    assert [[e.project for e in tool.entries] for tool in tools] == [["demo", "other"], []]
    assert "Freed 25 kB (4 files)" in out


def test_remove_without_a_match_is_1_unless_that_is_fine(run):
    assert run("remove", "nosuch", "--kind", "wheel", "-y")[::2] == (
        1,
        "Nothing found: no entry matches nosuch --kind wheel.\n",
    )
    assert run("remove", "nosuch", "-y", "--ignore-missing")[0] == 0


# -- trust


def test_verify_is_silent_and_0_when_all_is_well(run):
    assert run("verify", "-q") == (0, "", "")


def test_verify_names_what_it_found_and_exits_1_repaired_or_not(run, tools):
    tools[0].findings = [Finding("pip", None, "truncated", "numpy is half there", Path("/c/pip/x"))]
    status, out, _ = run("verify")
    assert status == 1
    assert "truncated        pip: numpy is half there" in out
    assert "fix: entrepot verify --repair" in out
    assert "fix: entrepot verify --full --repair" in run("verify", "--full")[1]
    status, out, _ = run("verify", "--repair")
    assert status == 1
    assert "(removed)" in out
    status, said = as_json(run("verify", "--json"))
    assert said["findings"][0]["problem"] == "truncated"


def test_verify_says_which_cache_it_could_not_check(run, tools):
    tools[0].trouble = StoreUnavailable("it is on fire")
    status, out, err = run("verify")
    assert (status, out) == (3, "1 cache checked\n")
    assert "pip: it is on fire" in err


def test_a_check_that_fails_halfway_is_not_ok_and_the_tools_other_places_are_checked(run, tools):
    def verify(place, around, **options):
        if place.path == Path("/a"):
            raise OSError(5, "Input/output error")
        yield Finding("pip", None, "truncated", f"{place.path} is half there")

    places = [Place("pip", Path(path), (), exists=True) for path in ("/a", "/b")]
    tools[:] = [FakeTool("pip", [])]
    tools[0].places, tools[0].verify = lambda around: places, verify
    status, out, err = run("verify")
    assert (status, out.splitlines()[-2]) == (1, "1 problem in 1 cache")
    assert "pip: Input/output error" in err
    places.pop()
    assert run("verify")[:2] == (3, "0 caches checked\n")


# -- settings


def test_config_sets_gets_lists_and_unsets(run, tmp_path):
    file = tmp_path / ".config/entrepot/config.toml"
    assert run("config", "set", "limit.total", "5GB")[:2] == (
        0,
        "limit.total: '5GB' (was not set) in ~/.config/entrepot/config.toml\n",
    )
    assert run("config", "get", "limit.total")[:2] == (0, "5GB\n")
    status, out, _ = run("config", "list", "--origin")
    assert status == 0
    assert f"{file}:2" in out
    assert "limit.total = 5GB" in out
    assert "not used" in out
    said = as_json(run("config", "list", "--json"))[1]
    assert {row["key"] for row in said["settings"]} == {key.name for key in KEYS}
    assert run("config", "unset", "limit.total")[0] == 0
    assert "total" not in file.read_text()


def test_config_get_counts_the_flag(run):
    assert run("config", "get", "store", "--store", "/elsewhere")[1] == "/elsewhere\n"


@pytest.mark.parametrize(
    "argv",
    [["get"], ["set", "yes"], ["list", "x"], ["get", "nosuch"], ["burn"], ["set", "nosuch", "1"]],
)
def test_config_refuses_what_it_does_not_understand(run, argv):
    assert run("config", *argv)[0] == 2


def test_a_wrong_value_in_the_file_stops_status_but_not_its_mending(run, tmp_path):
    file = tmp_path / ".config/entrepot/config.toml"
    file.parent.mkdir(parents=True)
    file.write_text('timeout = "soon"\n')
    status, _, err = run("status")
    assert status == 1
    assert f"{file}:1" in err
    assert run("config", "set", "timeout", "10s")[0] == 0
    assert run("status")[0] == 0


def test_an_unknown_key_is_warned_of_with_its_line(run, tmp_path):
    file = tmp_path / ".config/entrepot/config.toml"
    file.parent.mkdir(parents=True)
    file.write_text("ofline = true\n")
    err = run("status")[2]
    assert f"{file}:1" in err
    assert "did you mean 'offline'?" in err


def test_config_edit_makes_the_file_and_opens_the_editor(run, tmp_path, monkeypatch):
    monkeypatch.setenv("VISUAL", "sed -i s/#.store/store/")
    assert run("config", "edit")[0] == 0
    assert (tmp_path / ".config/entrepot/config.toml").read_text().splitlines()[
        2
    ] == 'store = "~/.cache/entrepot"'
    assert run("config", "--undo")[0] == 0
    assert not (tmp_path / ".config/entrepot/config.toml").exists()
    monkeypatch.setenv("VISUAL", "false")
    assert run("config", "edit")[0] == 1


def test_config_of_a_tool_goes_through_its_own_settings(run, tools):
    tools[0].own_settings = FakeSettings()
    assert run("config", "--tool", "pip", "set", "global.cache-dir", "/d")[1].splitlines() == [
        "global.cache-dir: '/d' (was '/c') in /etc/pip.conf",
        "the same by hand: pip config set global.cache-dir /d",
    ]
    assert run("config", "--tool", "pip", "get", "global.cache-dir")[1] == "/d\n"
    assert run("config", "--tool", "pip", "list")[1] == "global.cache-dir = /d\n"
    assert run("config", "--tool", "pip", "unset", "global.cache-dir")[0] == 0
    assert run("config", "--tool", "pip", "get", "global.cache-dir")[0] == 1
    assert run("config", "--tool", "uv", "list")[0] == 2
    assert run("config", "--tool", "pip,uv", "list")[0] == 2


# -- the edge


@pytest.mark.parametrize("argv", [("--tool", ""), ("--tool", " , "), ("--tool=",)], ids=str)
@pytest.mark.parametrize(
    "verb", [("list",), ("clean", "--all", "-y"), ("config", "list")], ids=" ".join
)
def test_an_empty_tool_is_a_mistake_and_never_means_every_tool(run, tools, argv, verb):
    """As ``clean --tool "$TOOL" --all -y`` with an unset variable: it must not clean everything."""
    status, _, err = run(*verb, *argv)
    assert (status, "names no tool" in err) == (2, True)
    assert len(tools[0].entries) == 3


@pytest.mark.parametrize(
    "argv",
    [
        ("--to", "9" * 5_000), ("--to", "1" * 400 + ".5GB"), ("--older", "9" * 5_000 + "y"), ("--to", "5 bananas"), ("--to", "1e9"),
        ("--keep-latest", "9" * 5_000), ("--keep-latest", "0"), ("--keep-latest", "-1"), ("--keep-latest", "two"),
    ],
    ids=lambda argv: " ".join(argv)[:30],
)  # fmt: skip
def test_numbers_that_are_none_or_beyond_reason_are_named_shortly(run, argv):
    status, _, err = run("clean", *argv)
    assert status == 2
    assert len(err.splitlines()[0]) < 120


def test_what_is_named_and_has_to_stay_makes_removing_it_3(run, tools):
    tools[0].entries[0] = replace(tools[0].entries[0], block=Block(BlockedBy.IN_USE, "in use"))
    status, out, _ = run("remove", "demo", "-y")
    assert status == 3
    assert "in use" in out
    assert run("remove", "demo", "-y", "--ignore-missing")[0] == 3
    status, said = as_json(run("remove", "demo", "-y", "--json"))
    assert (status, said["freed"], said["files"], said["removed"], len(said["staying"])) == (
        3,
        0,
        0,
        [],
        1,
    )


def test_cleaning_that_may_take_nothing_is_3_and_that_finds_all_in_use_or_nothing_is_0(run, tools):
    tools[0].entries = [
        replace(entry, block=Block(BlockedBy.NOT_PERMITTED, "no permission"))
        for entry in tools[0].entries
    ]
    assert run("clean", "--all", "-y", "--tool", "pip")[0] == 3
    tools[0].entries = [
        replace(entry, block=Block(BlockedBy.RECENT, "fresh")) for entry in tools[0].entries
    ]
    assert run("clean", "--all", "-y", "--tool", "pip")[0] == 0
    tools[0].entries = []
    status, said = as_json(run("clean", "--all", "--tool", "pip", "--json"))
    assert (status, said["dry_run"], said["removed"], said["staying"]) == (0, False, [], [])


@pytest.mark.parametrize("verb", [("where",), ("config", "list")], ids=" ".join)
def test_an_interpreter_that_is_none_is_a_usage_error(run, tmp_path, verb):
    for wrong in (
        "/nonexistent",
        str(tmp_path),
        "/etc/passwd",
        "no-such-python",
        "~nobody-here/x",
        "",
    ):
        status, _, err = run(*verb, "--tool", "pip", "--python", wrong)
        assert status == 2, wrong
        assert "there is no interpreter" in err


def test_a_tool_of_which_nothing_is_here_is_said_so(run, tools, monkeypatch):
    monkeypatch.setattr(tools[1], "places", lambda around: [])
    assert "uv: not found on this machine." in run("where", "uv")[2]
    assert not run("where")[1].endswith("\n\n")


def test_ctrl_c_is_130_without_a_word(run, tools):
    tools[0].trouble = KeyboardInterrupt()
    assert run("list")[::2] == (130, "")


def test_a_bug_is_a_sentence_unless_debug_is_wanted(run, tools):
    tools[0].trouble = ZeroDivisionError("oops")
    status, _, err = run("list")
    assert status == 1
    assert "Traceback" not in err
    assert "--debug" in err
    with pytest.raises(ZeroDivisionError):
        main(["list", "--debug"])


def test_a_command_that_has_a_status_for_our_failures_gets_it(tools, monkeypatch, capsys):
    def fails(_context):
        raise StoreUnavailable("no")

    module = SimpleNamespace(
        add_arguments=lambda parser: None,
        run=fails,
        TAKES_COMMAND=True,
        FAILURE=125,
        __doc__="Run.",
    )
    monkeypatch.setattr(cli.importlib, "import_module", lambda _name: module)
    assert main(["run", "--", "x"]) == 125
    assert capsys.readouterr().err == "error: no\n"


def test_every_tool_with_a_folder_is_found_by_itself(tmp_path):
    names = wiring.tool_names()
    assert names[0] == "entrepot"
    assert len(set(names)) == len(names)


def test_a_tool_that_does_not_exist_is_a_usage_error(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["where", "nosuchtool"]) == 2
    assert "nosuchtool" in capsys.readouterr().err


# -- status of what is there twice


class Counted(FakeTool):
    """A tool that counts its scans."""

    scans = 0

    def scan(self, place, around, *, progress=None):
        self.scans += 1
        yield from super().scan(place, around, progress=progress)


def test_status_names_what_several_caches_hold(run):
    _, said = as_json(run("status", "--json"))
    assert said["duplicates"] == {"wasted": 12_288, "files": 1, "tools": ["pip", "uv"]}
    assert (
        "! 12 kB is stored twice (pip and uv hold 1 identical file)      entrepot list --duplicates"
        in run("status")[1]
    )


def test_status_scans_each_cache_once(run, tools):
    tools[:] = [Counted(tool.name, tool.entries, path=tool.path) for tool in tools]
    assert as_json(run("status", "--json"))[1]["duplicates"]["files"] == 1
    assert [tool.scans for tool in tools] == [1, 1]


def test_status_looks_for_what_is_there_twice_also_where_a_tool_sums_up_without_a_scan(run, tools):
    uv = tools[1]
    uv.summary = lambda place, around: cache_total(place, uv.entries)
    assert as_json(run("status", "--json"))[1]["duplicates"]["files"] == 1
    uv.summary = lambda place, around: cache_total(place, ())
    uv.trouble = OSError(13, "Permission denied")
    status, out, err = run("status")
    assert (status, "stored twice" in out) == (3, False)
    assert "uv: Permission denied" in err


def test_what_is_there_twice_is_named_also_where_a_third_cache_cannot_be_read(run, tools):
    tools.append(FakeTool("conda", path="/c/conda", trouble=OSError(13, "Permission denied")))
    status, said = as_json(run("status", "--json"))
    assert (status, said["duplicates"]["files"]) == (3, 1)
    assert [warning["text"] for warning in said["warnings"]][:1] == ["conda: Permission denied"]


def test_of_several_patterns_those_that_match_nothing_are_named(run):
    """A misspelt name beside a right one must not pass for removed."""
    status, _, err = run("remove", "demo==1.0", "dmeo", "-n")
    assert (status, err) == (0, "Nothing found: no entry matches dmeo.\n")
    assert run("remove", "dmeo", "-n")[2] == "Nothing found: no entry matches dmeo.\n"


def test_a_plan_tells_the_places_of_one_tool_apart(run, tools):
    """What is orphaned must not hide among the rest."""
    tools[0].entries = [entry("demo", "1.0"), entry("demo", "2.0", place=Path("/old/pip"))]
    out = run("clean", "--all", "-n", "--tool", "pip")[1].splitlines()
    assert "downloads, in /c/pip " in out[1]
    assert "downloads, in /old/pip " in out[2]


def test_status_calls_an_orphaned_cache_so(run, tools):
    tools[0].places = lambda around: [Place("pip", Path("/c/pip"), (), ORPHANED, exists=True)]
    assert "/c/pip (orphaned)" in run("status")[1]


def test_an_interrupted_removal_says_that_a_part_is_done(run, tools):
    def remove(entries, around, *, force=False, progress=None):
        raise KeyboardInterrupt

    tools[0].remove = remove
    status, _, err = run("clean", "--all", "-y", "--tool", "pip")
    assert status == 130
    assert "Interrupted: what was removed before that is gone" in err


def test_what_two_caches_hold_together_is_in_the_total_once(run, tools):
    def summary(place, around):
        return replace(cache_total(place, tools[0].entries), linked=12_288)

    tools[0].summary = summary
    assert run("status")[1].splitlines()[3].split()[:3] == ["total", "37", "kB"]
    tools[0].summary = lambda place, around: cache_total(place, tools[0].entries)
    assert run("status")[1].splitlines()[3].split()[:3] == ["total", "49", "kB"]


def test_a_plan_in_which_nothing_goes_does_not_invite_to_do_it(run, tools):
    tools[1].entries = [
        entry(
            "demo",
            "2.0",
            tool="uv",
            place=Path("/c/uv"),
            removable_because="old layout",
            key="l",
            blocked="in use",
        )
    ]
    status, out, _ = run("clean", "-n")
    assert status == 0
    assert out.splitlines()[-1] == "Nothing changed: all of it is kept."


@pytest.mark.parametrize("dry", [["-n"], ["-y"]])
def test_a_size_that_cannot_be_reached_is_said_with_what_is_left(run, tools, dry):
    tools[0].entries = [entry("demo", "1.0", blocked="in use"), entry("demo", "2.0")]
    status, out, err = run("clean", "--to", "5kB", *dry)
    assert status == 0
    assert "least recently used" in out
    assert "warning: 12 kB would be left, more than the 5.0 kB of --to: nothing more may go" in err


def test_a_size_that_nothing_can_go_for_is_said_too(run, tools):
    tools[0].entries, tools[1].entries = [entry("demo", "1.0", blocked="in use")], []
    status, out, err = run("clean", "--to", "5kB")
    assert (status, out) == (
        0,
        (
            "Nothing to clean: no superseded layout, stale temporary file, orphan or expired page, "
            "and nothing for --to 5kB.\n"
        ),
    )
    assert "12 kB would be left" in err
    assert "would be left" not in run("clean", "--to", "50kB")[2]


def test_an_orphaned_cache_is_not_called_in_use(run, tools):
    place = replace(tools[0].places(SimpleNamespace(home=Path("/h")))[0], label="orphaned")
    tools[0].places = lambda around: [place]
    assert run("where", "pip")[1].splitlines()[0] == "pip   /c/pip   orphaned"


@pytest.mark.parametrize(("asked", "tool"), [("pixi", "rattler"), ("micromamba", "mamba")])
def test_a_program_that_shares_the_caches_of_another_is_known_by_its_own_name(
    tmp_path, capsys, monkeypatch, asked, tool
):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["where", asked]) == 0
    assert f"{tool}: not found on this machine." in capsys.readouterr().err
    assert main(["list", "--tool", asked]) == 0


def test_a_report_that_would_have_to_replace_a_directory_is_refused_before_the_command_runs(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["run", "--report", str(tmp_path), "--", "touch", str(tmp_path / "ran")]) == 125
    assert "that is a directory" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("argv", [["six"], ["-r", "r.txt"]])
def test_condas_name_of_another_platform_is_not_taken_for_pips(tmp_path, capsys, monkeypatch, argv):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.txt").write_text("six\n")
    assert main(["warm", *argv, "--platform", "osx-arm64"]) == 2
    assert "osx-arm64" in capsys.readouterr().err
