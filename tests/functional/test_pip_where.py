"""``where`` against the real pips.

What is computed is what ``pip cache dir`` prints and where a download really lands.
"""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from entrepot.ports.tool import Surroundings
from entrepot.tools.pip.interpreters import pip_of
from entrepot.tools.pip.places import place_of
from pip_lab import VERSIONS, ForkedPip, Index, Origin, clean_environ, pip_python, wheel_bytes

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the combinations are written for POSIX")


@dataclass(frozen=True)
class Case:
    """One combination; ``{home}`` and ``{tmp}`` are filled in."""

    name: str
    environ: dict[str, str | None] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()


USER = "{home}/.config/pip/pip.conf"
CASES = [
    Case("nothing"),
    Case("variable", {"PIP_CACHE_DIR": "{tmp}/v"}),
    Case("variable-empty", {"PIP_CACHE_DIR": ""}),
    Case("variable-tilde", {"PIP_CACHE_DIR": "~/v"}),
    Case("variable-relative", {"PIP_CACHE_DIR": "v/../w"}),
    Case("variable-dollar", {"PIP_CACHE_DIR": "{tmp}/$HOME"}),
    Case("variable-lower-case", {"PIP_cache_dir": "{tmp}/lower"}),
    Case("off-1", {"PIP_NO_CACHE_DIR": "1"}),
    Case("off-0", {"PIP_NO_CACHE_DIR": "0"}),
    Case("off-false", {"PIP_NO_CACHE_DIR": "False"}),
    Case("off-empty", {"PIP_NO_CACHE_DIR": ""}),
    Case("off-maybe", {"PIP_NO_CACHE_DIR": "maybe"}),
    Case(
        "off-in-file-beats-variable",
        {"PIP_CACHE_DIR": "{tmp}/v"},
        {USER: "[global]\nno-cache-dir = off\n"},
    ),
    Case(
        "off-in-file-loses-to-option",
        {},
        {USER: "[global]\nno-cache-dir = yes\n"},
        ("--cache-dir", "{tmp}/o"),
    ),
    Case("user-file", {}, {USER: "[global]\ncache-dir = {tmp}/f\n"}),
    Case("legacy-file", {}, {"{home}/.pip/pip.conf": "[global]\ncache-dir = {tmp}/legacy\n"}),
    Case(
        "both-files",
        {},
        {
            "{home}/.pip/pip.conf": "[global]\ncache-dir = {tmp}/legacy\n",
            USER: "[global]\ncache-dir = {tmp}/f\n",
        },
    ),
    Case("global-file", {}, {"{home}/xdg/pip/pip.conf": "[global]\ncache-dir = {tmp}/g\n"}),
    Case(
        "section-beats-level",
        {},
        {USER: "[cache]\ncache-dir = {tmp}/c\n", "{tmp}/named": "[global]\ncache-dir = {tmp}/n\n"},
    ),
    Case(
        "config-file",
        {"PIP_CONFIG_FILE": "{tmp}/named"},
        {"{tmp}/named": "[global]\ncache-dir = {tmp}/n\n"},
    ),
    Case(
        "config-file-hides-user",
        {"PIP_CONFIG_FILE": "{tmp}/named"},
        {USER: "[global]\ncache-dir = {tmp}/f\n", "{tmp}/named": "[global]\ntimeout = 9\n"},
    ),
    Case(
        "config-file-missing",
        {"PIP_CONFIG_FILE": "{tmp}/absent"},
        {USER: "[global]\ncache-dir = {tmp}/f\n"},
    ),
    Case(
        "config-file-null",
        {"PIP_CONFIG_FILE": "/dev/null"},
        {USER: "[global]\ncache-dir = {tmp}/f\n"},
    ),
    Case("config-file-empty", {"PIP_CONFIG_FILE": ""}, {USER: "[global]\ncache-dir = {tmp}/f\n"}),
    Case(
        "empty-hides-weaker",
        {},
        {
            "{home}/xdg/pip/pip.conf": "[global]\ncache-dir = {tmp}/g\n",
            USER: "[global]\ncache-dir =\n",
        },
    ),
    Case(
        "empty-switch",
        {},
        {
            "{home}/xdg/pip/pip.conf": "[global]\nno-cache-dir = yes\n",
            USER: "[global]\nno-cache-dir =\n",
        },
    ),
    Case(
        "empty-hides-default-section",
        {},
        {USER: "[DEFAULT]\ncache-dir = {tmp}/d\n[global]\ncache-dir =\n"},
    ),
    Case(
        "default-section-empty",
        {},
        {USER: "[DEFAULT]\ncache-dir =\n[global]\ncache-dir = {tmp}/f\n"},
    ),
    Case(
        "empty-section-falls-through",
        {},
        {USER: "[global]\ncache-dir = {tmp}/g\n[cache]\ncache-dir =\n"},
    ),
    Case("key-underscore", {}, {USER: "[global]\nCache_Dir: {tmp}/f\n"}),
    Case("key-dashes", {}, {USER: "[global]\n--cache-dir = {tmp}/f\n"}),
    Case("section-capitals", {}, {USER: "[GLOBAL]\ncache-dir = {tmp}/f\n"}),
    Case("default-section", {}, {USER: "[DEFAULT]\ncache-dir = {tmp}/d\n[global]\ntimeout = 3\n"}),
    Case("default-section-alone", {}, {USER: "[DEFAULT]\ncache-dir = {tmp}/d\n"}),
    Case("false-is-a-directory", {}, {USER: "[global]\ncache-dir = false\n"}),
    Case("inline-comment-is-value", {}, {USER: "[global]\ncache-dir = {tmp}/f ; mine\n"}),
    Case("quotes-stay", {}, {USER: '[global]\ncache-dir = "{tmp}/f"\n'}),
    Case("option", {"PIP_CACHE_DIR": "{tmp}/v"}, {}, ("--cache-dir", "{tmp}/o")),
    Case("option-last-wins", {}, {}, ("--cache-dir={tmp}/o", "--no-cache-dir")),
    Case(
        "option-last-wins-again",
        {"PIP_NO_CACHE_DIR": "1"},
        {},
        ("--no-cache-dir", "--cache-dir={tmp}/o"),
    ),
    Case("option-empty", {"PIP_CACHE_DIR": "{tmp}/v"}, {}, ("--cache-dir", "")),
    Case("xdg", {"XDG_CACHE_HOME": "{tmp}/xdg"}),
    Case("xdg-empty", {"XDG_CACHE_HOME": ""}),
    Case("xdg-blank", {"XDG_CACHE_HOME": " "}),
    Case("xdg-relative", {"XDG_CACHE_HOME": "xdg"}),
    Case(
        "xdg-config",
        {"XDG_CONFIG_HOME": "{tmp}/xc"},
        {"{tmp}/xc/pip/pip.conf": "[global]\ncache-dir = {tmp}/f\n"},
    ),
    Case(
        "xdg-config-relative",
        {"XDG_CONFIG_HOME": "xc"},
        {"{tmp}/xc/pip/pip.conf": "[global]\ncache-dir = {tmp}/f\n"},
    ),
    Case(
        "xdg-config-dirs-two",
        {"XDG_CONFIG_DIRS": "{tmp}/a:{tmp}/b"},
        {
            "{tmp}/a/pip/pip.conf": "[global]\ncache-dir = {tmp}/1\n",
            "{tmp}/b/pip/pip.conf": "[global]\ncache-dir = {tmp}/2\n",
        },
    ),
    Case("home-unset", {"HOME": None, "XDG_CACHE_HOME": "{tmp}/xdg"}),
    Case("home-empty", {"HOME": ""}),
    Case("broken-twice", {}, {USER: "[global]\ntimeout = 3\n[global]\ncache-dir = {tmp}/f\n"}),
    Case("broken-no-section", {}, {USER: "cache-dir = {tmp}/f\n"}),
    Case("broken-bom", {}, {USER: "\ufeff[global]\ncache-dir = {tmp}/f\n"}),
    Case("broken-key-twice", {}, {USER: "[global]\ncache-dir = {tmp}/f\ncache-dir = {tmp}/g\n"}),
]
"""Each is run by six pips: more than 300 combinations."""


@pytest.mark.parametrize("version", VERSIONS)
def test_where_says_what_pip_says(version, tmp_path):
    """All cases of one version in one test.

    Starting an interpreter is what costs, and a failure lists every case.
    """
    wrong = []
    with ForkedPip(version, tmp_path) as pip:
        for case in CASES:
            computed, said = compared(case, version, tmp_path / case.name, pip)
            if computed != said:
                wrong.append(f"{case.name}: entrepot {computed!r}, pip {said!r}")
    assert not wrong, "\n".join(wrong)


def compared(case: Case, version: str, folder: Path, pip: ForkedPip) -> tuple[str, str]:
    environ, options, around = prepared(case, version, folder)
    place = place_of(around, pip_of(pip_python(version), around), command="cache", options=options)
    computed = "error" if place.why_not.startswith("pip stops") else str(place.path or "off")
    status, said = pip.run("cache", "dir", *options, environ=environ, cwd=folder)
    return computed, said.strip().splitlines()[
        -1
    ] if not status else "off" if "cache is disabled" in said else "error"


def prepared(
    case: Case, version: str, folder: Path, **more: str
) -> tuple[dict[str, str], list[str], Surroundings]:
    """The environment and the options of one case, its files written, and the same world for ``where``."""
    home = folder / "home"
    home.mkdir(parents=True)
    fill = {"home": str(home), "tmp": str(folder)}
    environ = clean_environ(home, **more)
    for name, value in case.environ.items():
        environ.pop(name, None)
        if value is not None:
            environ[name] = value.format(**fill)
    for name, text in case.files.items():
        path = Path(name.format(**fill))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("{tmp}", str(folder)), "utf-8")
    options = [word.format(**fill) for word in case.options]
    registered = Path(pwd.getpwuid(os.getuid()).pw_dir)
    around = Surroundings(
        environ,
        home if environ.get("HOME") else registered,
        folder,
        "linux",
        os.geteuid(),
        pip_python(version),
    )
    return environ, options, around


LANDINGS = [
    (Case("default"), "home/.cache/pip"),
    (Case("variable", {"PIP_CACHE_DIR": "{tmp}/v"}), "v"),
    (Case("xdg", {"XDG_CACHE_HOME": "{tmp}/x"}), "x/pip"),
    (
        Case(
            "section-of-the-command",
            {},
            {USER: "[cache]\ncache-dir = {tmp}/no\n[download]\ncache-dir = {tmp}/d\n"},
        ),
        "d",
    ),
    (
        Case(
            "cache-section-does-not-count",
            {},
            {USER: "[global]\ncache-dir = {tmp}/g\n[cache]\ncache-dir = {tmp}/no\n"},
        ),
        "g",
    ),
    (
        Case("install-section-does-not-count", {}, {USER: "[install]\ncache-dir = {tmp}/no\n"}),
        "home/.cache/pip",
    ),
    (Case("zero-turns-off", {"PIP_NO_CACHE_DIR": "0", "PIP_CACHE_DIR": "{tmp}/no"}), None),
    (
        Case(
            "off-in-section",
            {"PIP_CACHE_DIR": "{tmp}/no"},
            {USER: "[download]\nno-cache-dir = false\n"},
        ),
        None,
    ),
    (Case("option", {"PIP_NO_CACHE_DIR": "1"}, {}, ("--cache-dir", "o")), "o"),
    (Case("option-turns-off", {"PIP_CACHE_DIR": "{tmp}/no"}, {}, ("--no-cache-dir",)), None),
    (Case("legacy-file", {}, {"{home}/.pip/pip.conf": "[global]\ncache-dir = ~/l\n"}), "home/l"),
    (
        Case(
            "named-file-beats-users",
            {"PIP_CONFIG_FILE": "{tmp}/named"},
            {
                USER: "[global]\ncache-dir = {tmp}/no\n",
                "{tmp}/named": "[global]\ncache-dir = {tmp}/n\n",
            },
        ),
        "n",
    ),
]
"""``pip cache dir`` does not always say where an install goes: the section ``[cache]`` does not
concern it."""


@pytest.mark.parametrize("version", VERSIONS)
def test_a_download_lands_where_where_says(version, tmp_path):
    """From an https origin of our own, every other combination by each pip.

    What is looked for then is the files.
    """
    wrong = []
    index = Index()
    index.add(*wheel_bytes("landing", "1.0"))
    origin = Origin(index, tmp_path)
    more = {"PIP_CERT": str(origin.ca), "PIP_INDEX_URL": f"{origin.base}/simple"}
    try:
        with ForkedPip(version, tmp_path) as pip:
            for case, lands in LANDINGS[VERSIONS.index(version) % 2 :: 2]:
                folder = tmp_path / case.name
                environ, options, around = prepared(case, version, folder, **more)
                place = place_of(
                    around, pip_of(pip_python(version), around), command="download", options=options
                )
                words = ["download", "--no-deps", "-d", str(folder / "out"), *options, "landing"]
                status, said = pip.run(*words, environ=environ, cwd=folder)
                layout = "http" if version < "23.3" else "http-v2"
                found = sorted({str(p.parent.relative_to(folder)) for p in folder.rglob(layout)})
                if (
                    status
                    or found != [lands][: lands is not None]
                    or place.path != (folder / lands if lands else None)
                ):
                    wrong.append(
                        f"{case.name}: entrepot {place.path}, pip {found}, status {status}: {said}"
                    )
    finally:
        origin.close()
    assert not wrong, "\n".join(wrong)
