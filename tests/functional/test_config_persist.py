"""`--persist` and `--undo` through the command, tool by tool.

What is printed, what is changed and what comes back.
"""

import json
import os
import sys
from pathlib import Path

import pytest

import clients

pytestmark = pytest.mark.skipif(os.name == "nt", reason="written for POSIX")

TOOLS = {
    "pip": (
        ".config/pip/pip.conf",
        "[global]\ntimeout = 60 \n",
        "cache-dir",
        "export PIP_CACHE_DIR=/c",
    ),
    "conda": (
        ".condarc",
        "# mine\nalways_copy: false # why\n",
        "pkgs_dirs",
        "export CONDA_PKGS_DIRS=/c",
    ),
    "mamba": (
        ".mambarc",
        "# mine\nalways_copy: false # why\n",
        "pkgs_dirs",
        "export CONDA_PKGS_DIRS=/c",
    ),
    "uv": (
        ".config/uv/uv.toml",
        "# mine\noffline = true # why\n",
        "cache-dir",
        "export UV_CACHE_DIR=/c",
    ),
    "entrepot": (
        ".config/entrepot/config.toml",
        '# mine\ntimeout = "9s" # why\n',
        "store",
        "export ENTREPOT_STORE=/c",
    ),
}


@pytest.mark.parametrize("tool", TOOLS)
def test_a_file_comes_back_and_for_a_variable_the_line_is_printed(tmp_path, tool):
    name, text, key, line = TOOLS[tool]
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    environ = clients.clean_environment(
        tmp_path, isolated=False, SHELL="/bin/bash", PYTHONPATH=str(clients.ROOT / "src")
    )
    command = [sys.executable, "-m", "entrepot", "config", "--tool", tool]

    def said(*words: str, status: int = 0) -> str:
        done = clients.run([*command, *words], environ, cwd=tmp_path)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    assert said("set", key, "/c", "--persist", "env") == f"{line}\n"
    assert said("unset", key, "--persist", "env") == f"unset {line.split()[1].partition('=')[0]}\n"
    assert said("--undo", status=1) == ""
    assert file.read_text() == text
    assert "'/c'" in said("set", key, "/c", "--persist", "config")
    assert "/c" in file.read_text()
    change = json.loads(said("--undo", "--json"))["change"]
    assert (Path(change["path"]), change["before"], change["after"]) == (file, "/c", None)
    assert file.read_text() == text


def test_a_token_is_shown_nowhere_but_in_the_file(tmp_path):
    file = tmp_path / ".condarc"
    file.write_text("anaconda_token: s3cret\nalways_copy: true\n")
    environ = clients.clean_environment(
        tmp_path, isolated=False, PYTHONPATH=str(clients.ROOT / "src")
    )
    command = [sys.executable, "-m", "entrepot", "config", "--tool", "conda"]
    for words in (["unset", "anaconda_token", "--json"], ["--undo"]):
        done = clients.run([*command, *words], environ, cwd=tmp_path)
        assert "s3cret" not in done.stdout + done.stderr
    assert "credential" in done.stderr
    assert "s3cret" not in (tmp_path / ".local/state/entrepot/settings.jsonl").read_text()


def test_a_credential_in_a_stronger_variable_is_masked(tmp_path):
    environ = clients.clean_environment(
        tmp_path,
        isolated=False,
        PYTHONPATH=str(clients.ROOT / "src"),
        UV_INDEX_URL="https://me:s3cret@index.test/simple",
    )
    command = [sys.executable, "-m", "entrepot", "config", "--tool", "uv"]
    for words in (["--json"], []):
        done = clients.run(
            [*command, "set", "index-url", "https://other.test/", *words], environ, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        assert "s3cret" not in done.stdout + done.stderr
    assert (
        json.loads(
            clients.run([*command, "unset", "index-url", "--json"], environ, cwd=tmp_path).stdout
        )["change"]["before"]
        == "https://other.test/"
    )
