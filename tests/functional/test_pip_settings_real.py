"""Awkward pip.conf files edited here and read by real pips of six versions."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from entrepot.ports.tool import Surroundings
from entrepot.tools.pip.conffile import parse, split_lines
from entrepot.tools.pip.settings import PipSettings
from pip_lab import VERSIONS, clean_environ, pip_python
from unit.test_tools_pip_conffile import AWKWARD

pytestmark = pytest.mark.skipif(os.name == "nt", reason="written for POSIX")

READER = """
import json, os, sys
from pip._internal.configuration import Configuration
found = {}
for home in sys.argv[1:]:
    os.environ["HOME"] = home
    configuration = Configuration(isolated=False)
    configuration.load()
    values = {}
    for name, value in configuration.items():  # from 25.2 on one mapping a file
        values.update(value if isinstance(value, dict) else {name: value})
    found[home] = {k: v for k, v in values.items() if not k.startswith(":env:")}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def edited(tmp_path_factory):
    """Folder -> what is wrong in its files, and folder -> the keys and values that a pip must read there. Every file has four
    folders: as it was, with a new key, with another value of a key that may be there, and with both
    taken out again."""
    root = tmp_path_factory.mktemp("edited")
    wrong, wanted = [], {}
    for name, text in AWKWARD.items():
        after = {"before": text}
        for step, change in STEPS.items():
            home = root / f"{name}-{step}"
            path = home / ".config/pip/pip.conf"
            path.parent.mkdir(parents=True)
            path.write_bytes(after.get(BASE[step], text).encode())
            settings = PipSettings(
                Surroundings(
                    clean_environ(home), home, home, "linux", os.geteuid(), pip_python("26.3")
                )
            )
            change(settings)
            after[step] = path.read_bytes().decode()
            wrong += [
                f"{name}, {step}: {line!r}"
                for line in strangers(after.get(BASE[step], text), after[step])
            ]
            wanted[str(home)] = (name, step)
    return wrong, wanted


STEPS = {
    "before": lambda settings: None,
    "new": lambda settings: settings.set("global.no-color", "yes"),
    "other": lambda settings: settings.set("global.timeout", "42"),
    "gone": lambda settings: settings.unset("global.no-color"),
}
BASE = {"before": "before", "new": "before", "other": "new", "gone": "new"}
"""Which of a file's folders a step starts from."""


def lines_but(text: str) -> list[str]:
    """The lines of a file but those of the two keys; its last line with an end."""
    file = parse(text)
    mine = {
        row
        for o in file.options
        if o.section == "global" and o.key in ("no-color", "timeout")
        for row in o.rows
    }
    return [
        line if line.endswith(("\n", "\r")) else line + file.newline
        for n, line in enumerate(split_lines(text))
        if n not in mine
    ]


def strangers(before: str, after: str) -> list[str]:
    """Lines that were not asked for and came, went or changed.

    A section that was not there may come, under an empty line.
    """
    old, new = lines_but(before), lines_but(after)
    if "global" not in parse(before).sections:
        added = [line for line in new[len(old) :] if line.strip() not in ("", "[global]")]
        return added + [line for line, kept in zip(old, new, strict=False) if line != kept]
    return sorted(set(old) ^ set(new)) or ([] if old == new else ["the order of the lines"])


def test_thirty_awkward_files_keep_every_byte_but_the_line_that_was_asked_for(edited):
    assert len(AWKWARD) >= 30
    assert edited[0] == []


@pytest.mark.parametrize("version", VERSIONS)
def test_pip_reads_what_was_written_and_what_was_there(version, edited, tmp_path):
    """One process of a real pip for all files.

    It must read the values of the file as it was, but for the two keys.
    """
    _, wanted = edited
    command = [str(pip_python(version)), "-c", READER, *wanted]
    done = subprocess.run(
        command, env=clean_environ(tmp_path), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    by_name = {wanted[home]: values for home, values in found.items()}
    for name in AWKWARD:
        before = by_name[name, "before"]
        assert by_name[name, "new"] == {**before, "global.no-color": "yes"}, name
        assert by_name[name, "other"] == {
            **before,
            "global.no-color": "yes",
            "global.timeout": "42",
        }, name
        assert by_name[name, "gone"] == before, name


def test_pip_says_where_its_cache_is_after_it_was_set(tmp_path):
    around = Surroundings(
        clean_environ(tmp_path), tmp_path, tmp_path, "linux", os.geteuid(), pip_python("26.3")
    )
    settings = PipSettings(around)
    change = settings.set("cache-dir", str(tmp_path / "elsewhere"))
    asked = settings.ask(change)
    assert (asked.verified, asked.differs) == (f"its cache is {tmp_path}/elsewhere", False)
    gone = settings.unset("cache-dir")
    asked = settings.ask(gone)
    assert (asked.verified, asked.differs) == (f"its cache is {tmp_path}/.cache/pip", False)
