"""Awkward pip.conf files edited here and read by a real pip afterwards."""

from __future__ import annotations

import os

import pytest

from entrepot.ports.tool import Surroundings
from entrepot.tools.pip.settings import PipSettings, confirmed
from pip_lab import clean_environ, pip_python
from unit.test_tools_pip_conffile import AWKWARD

pytestmark = pytest.mark.skipif(os.name == "nt", reason="written for POSIX")

READABLE = {name: text for name, text in AWKWARD.items() if name != "not-utf-8"}
"""A file with other bytes stops pip before and after; it is only kept as it is."""


def test_pip_reads_what_was_written_and_every_other_byte_is_kept(tmp_path):
    """All files in one test, so that a failure lists every one of them."""
    wrong = []
    for name, text in READABLE.items():
        home = tmp_path / name
        path = home / ".config/pip/pip.conf"
        path.parent.mkdir(parents=True)
        path.write_bytes(text.encode())
        around = Surroundings(clean_environ(home), home, home, "linux", os.geteuid(), pip_python("26.3"))
        settings = PipSettings(around)
        said = confirmed(settings.set("global.no-color", "yes"), settings)
        if said != "pip config get global.no-color: yes":
            wrong.append(f"{name}: {said}")
        settings.unset("global.no-color")
        if "[global]" in text and path.read_bytes().rstrip(b"\r\n") != text.encode().rstrip(b"\r\n"):
            wrong.append(f"{name}: other bytes changed")
    assert not wrong, "\n".join(wrong)


def test_pip_says_where_its_cache_is_after_it_was_set(tmp_path):
    around = Surroundings(clean_environ(tmp_path), tmp_path, tmp_path, "linux", os.geteuid(), pip_python("26.3"))
    settings = PipSettings(around)
    change = settings.set("cache-dir", str(tmp_path / "elsewhere"))
    assert (
        confirmed(change, settings) == f"pip config get global.cache-dir: {tmp_path}/elsewhere; pip cache dir: {tmp_path}/elsewhere"
    )
    gone = settings.unset("cache-dir")
    assert confirmed(gone, settings) == f"pip config get global.cache-dir: not set; pip cache dir: {tmp_path}/.cache/pip"
