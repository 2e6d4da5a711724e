"""Which of warm's options and files are conda's, and what is wrong with them."""

import argparse
from pathlib import Path

import pytest

from entrepot.cli.cmd_warm import add_arguments
from entrepot.cli.warming import CondaOrder
from entrepot.errors import UsageError
from entrepot.ports.tool import Surroundings

EXPLICIT = "@EXPLICIT\nhttps://channel.test:8443/noarch/demo-1.0-0.conda#" + "a" * 64 + "\n"


def order(folder, files, *argv):
    for name, text in files.items():
        (folder / name).write_text(text)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args([str(folder / word) if word in files else word for word in argv])
    return CondaOrder.of(args, Surroundings({"CONDA_SUBDIR": "linux-64"}, Path("/home"), folder))


def test_requirement_files_stay_pips_and_explicit_lists_among_them_do_not(tmp_path):
    made = order(
        tmp_path,
        {"r.txt": "demo\n", "e.txt": EXPLICIT},
        "-r",
        "r.txt",
        "-r",
        "e.txt",
        "-r",
        "none.txt",
    )
    assert [path.name for path in made.requirements] == ["r.txt", "none.txt"]
    assert [item.link.filename for item in made.items] == ["demo-1.0-0.conda"]
    assert made.hosts == ("channel.test:8443",)
    assert made


def test_platforms_are_condas_names_and_this_one_without_any(tmp_path):
    files = {"e.yml": "channels: ['https://lab.test/x']\ndependencies: [demo]\n"}
    made = order(
        tmp_path,
        files,
        "-f",
        "e.yml",
        "--platform",
        "osx-arm64",
        "--platform",
        "manylinux_2_28_x86_64",
    )
    assert made.platforms == ("osx-arm64",)
    assert made.hosts == ("lab.test:443",)
    assert order(tmp_path, files, "--env", "e.yml").platforms == ("linux-64",)


def test_a_pip_section_alone_leaves_nothing_for_conda(tmp_path):
    made = order(
        tmp_path, {"e.yml": "dependencies: [{pip: [leaf, -r more.txt]}]\n"}, "--env", "e.yml"
    )
    assert not made
    (file,) = made.pip_section(tmp_path)
    assert file.read_text() == f"leaf\n-r {tmp_path}/more.txt\n"


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("environment.yml", "dependencies: [-x]\n", "no channel and no package"),
        ("environment.yml", "dependencies: {a: 1}\n", "no list of dependencies"),
        ("environment.yml", "dependencies: [\n", "not YAML"),
        ("environment.yml", "dependencies: [{conda: [x]}]\n", "neither a text nor pip"),
        ("conda-lock.yml", "version: 1\npackage: []\n", "names no archive"),
        ("explicit.txt", "@EXPLICIT\nfile:///tmp/x-1-0.conda\n", "names no archive"),
        ("notes.txt", "hello\n", "no environment file, explicit list or lock"),
    ],
)
def test_what_is_wrong_with_a_file_is_a_usage_error_that_names_it(tmp_path, name, text, why):
    with pytest.raises(UsageError, match=why) as found:
        order(tmp_path, {name: text}, "-f", name)
    assert name in found.value.message
