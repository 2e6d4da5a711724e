"""Each fragment in ``changelog.d`` is one sentence for the user, in a file that towncrier takes up."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "changelog.d"
NO_FRAGMENTS = {"README.md", "template.md.jinja"}
KINDS = {
    kind["directory"]
    for kind in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["towncrier"]["type"]
}
NAME = re.compile(rf"\d{{4}}\.(?:{'|'.join(sorted(KINDS))})\.md")
NEXT_SENTENCE = re.compile(r"[.!?] +[A-Z`*]")
LONGEST = 300

fragments = sorted(file for file in FOLDER.iterdir() if file.name not in NO_FRAGMENTS)


def test_the_kinds_are_those_of_the_table_for_contributors():
    table = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)) == KINDS


@pytest.mark.parametrize("fragment", fragments, ids=lambda file: file.name)
def test_a_fragment_is_one_sentence_of_a_known_kind(fragment):
    assert NAME.fullmatch(fragment.name)
    text = " ".join(fragment.read_text(encoding="utf-8").split())
    assert text.endswith(".")
    assert NEXT_SENTENCE.search(text) is None
    assert len(text) <= LONGEST
