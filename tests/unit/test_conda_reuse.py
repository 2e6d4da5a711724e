"""Which archive of which cache stands for a URL; whether it is right is for others to see."""

import os
from pathlib import Path

import pytest

from entrepot.ports.tool import Surroundings
from entrepot.tools.conda.reuse import donors

URL = "https://channel.test/noarch/demo-1.0-0.conda"


@pytest.fixture
def caches(tmp_path):
    """Two caches in the order in which conda looks at them."""
    return tmp_path / "first", tmp_path / "second"


def find(caches, url=URL):
    around = Surroundings(
        {"CONDA_PKGS_DIRS": ",".join(map(str, caches))}, caches[0].parent, caches[0].parent
    )
    (donor,) = donors(around)
    return donor(url)


def keep(folder: Path, name="demo-1.0-0.conda", data=b"archive", log=""):
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)
    (folder / "urls.txt").write_text(log)


def test_an_archive_is_found_by_its_name_and_never_linked(caches):
    keep(caches[1])
    found = find(caches, "https://mirror.test/other/linux-64/demo-1.0-0.conda?x=1")
    assert (found.path, found.size, found.offset) == (caches[1] / "demo-1.0-0.conda", 7, 0)
    assert (found.is_whole_file, found.needs_proof, found.credentialed) == (False, True, False)
    assert (found.head.status, found.head.headers.get("content-length")) == (200, "7")
    with found.open() as body:
        assert body.read() == b"archive"


def test_of_several_the_one_that_came_from_this_url_is_taken(caches):
    keep(caches[0], log="https://mirror.test/noarch/demo-1.0-0.conda\n")
    keep(caches[1], data=b"other", log=f"{URL}\n")
    assert find(caches).path.parent == caches[1]
    assert find(caches, "https://third.test/demo-1.0-0.conda").path.parent == caches[0]


@pytest.mark.parametrize(
    "url",
    [
        "https://files.test/demo-1.0-0.whl",
        "https://channel.test/noarch/",
        "https://channel.test/noarch/demo-1.0-0",
        "https://channel.test/noarch/urls.txt",
        "https://channel.test/..%2Ffirst%2F..%2f.conda",
        "https://channel.test/%2e%2e/gone-1.0-0.conda",
    ],
)
def test_what_is_no_archive_of_a_cache_is_not_found(caches, url):
    keep(caches[0])
    assert find(caches, url) is None


def test_what_is_no_plain_file_or_empty_is_not_found(caches):
    keep(caches[0], data=b"")
    (caches[0] / "demo-2-0.conda").symlink_to("/etc/passwd")
    os.mkfifo(caches[0] / "demo-3-0.conda")
    (caches[0] / "demo-4-0.conda").mkdir()
    for name in ("demo-1.0-0", "demo-2-0", "demo-3-0", "demo-4-0"):
        assert find(caches, f"https://channel.test/noarch/{name}.conda") is None
