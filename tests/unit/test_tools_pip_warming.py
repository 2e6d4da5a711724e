"""Items of requirement files, the commands that fetch them, and pip's own words about a failure."""

from pathlib import Path

import pytest

from entrepot.errors import UsageError
from entrepot.tools.pip.warming import Item, Order, pin_of, reason, sdist_words

PIP = ["python", "-m", "pip"]


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


def test_each_requirement_is_an_item_with_the_options_that_concern_it(tmp_path):
    file = write(
        tmp_path,
        "r.txt",
        "-i https://index.test/simple\n# no\ndemo>=1 \\\n  --hash=sha256:00\nOther[x] ; python_version>'3'\n",
    )
    first, second = Order(files=(file,)).items()
    assert (first.text, first.project, first.hashed) == ("demo>=1", "demo", True)
    assert (second.project, second.hashed) == ("other", False)
    assert first.options == second.options == ("-i https://index.test/simple",)


def test_files_that_a_file_names_are_read_once_and_constraints_stay_what_they_were(tmp_path):
    write(tmp_path, "more.txt", "inner\n-r r.txt\n")
    file = write(tmp_path, "r.txt", "outer\n-r more.txt\n-c c.txt\n")
    items = Order(names=("named",), files=(file,)).items()
    assert [item.text for item in items] == ["named", "outer", "inner"]
    assert items[1].options == (f"-c {tmp_path}/c.txt",)


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        Order(files=(tmp_path / "none",)).items()


@pytest.mark.parametrize(
    ("text", "project"),
    [
        ("Foo_Bar==1", "foo-bar"),
        ("https://files.test/Foo_Bar-1.0-py3-none-any.whl", "foo-bar"),
        ("demo @ https://files.test/x.zip", "demo"),
        ("./folder", None),
        ("-e .", None),
        ("git+https://index.test/x", None),
    ],
)
def test_the_project_of_an_item_is_known_when_its_text_says_it(text, project):
    assert Item(text, text).project == project


def test_for_another_platform_only_wheels_are_asked_for(tmp_path):
    words = Order(names=("demo",), platforms=("a", "b")).words(PIP, tmp_path)
    assert words[words.index("--only-binary") :] == [
        "--only-binary",
        ":all:",
        "--platform",
        "a",
        "--platform",
        "b",
        "demo",
    ]


def test_an_item_with_hashes_is_tried_without_its_dependencies_which_have_theirs_elsewhere(
    tmp_path,
):
    item = Item("demo==1", "demo==1 --hash=sha256:00", ("-i https://index.test/",))
    words = Order().words_alone(PIP, tmp_path / "out", item, tmp_path / "one.txt")
    assert "--no-deps" in words
    assert Path(words[-1]).read_text() == "-i https://index.test/\ndemo==1 --hash=sha256:00\n"


def test_source_archives_are_asked_for_by_exact_version_from_the_same_indexes(tmp_path):
    file = write(tmp_path, "r.txt", "--index-url=https://index.test/simple\n-c c.txt\ndemo\n")
    words = sdist_words(PIP, tmp_path, [("demo", "1.0"), ("leaf", "2")], [file])
    start = words.index("--no-binary")
    assert words[start:] == [
        "--no-binary",
        "demo,leaf",
        "--index-url",
        "https://index.test/simple",
        "demo==1.0",
        "leaf==2",
    ]


def test_the_last_error_is_the_reason():
    assert (
        reason("WARNING: x\nERROR: one\n  ERROR: No matching distribution found for y\n")
        == "No matching distribution found for y"
    )
    assert reason("Traceback\nKeyError: 1\n") == "KeyError: 1"
    assert reason("") == "pip said nothing"


def test_a_file_name_says_project_and_version():
    assert pin_of("Foo_Bar-1.0-py3-none-any.whl") == ("foo-bar", "1.0")
    assert pin_of("notes.txt") is None
