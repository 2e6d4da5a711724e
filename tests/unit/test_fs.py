"""Files in one step, and whose they are afterwards."""

import os

import pytest

from entrepot.errors import ConfigError
from entrepot.fs import make_folders, open_or_make, write_atomically

needs_root = pytest.mark.skipif(
    os.name == "nt" or os.geteuid() != 0, reason="needs to be root: owners are changed"
)
THEIRS = 54_321
"""A user id; nobody needs to have it."""


def test_a_file_is_replaced_with_its_mode_and_through_a_symbolic_link(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_bytes(b"old")
    real.chmod(0o604)
    link.symlink_to(real)
    write_atomically(link, b"new")
    assert (link.is_symlink(), real.read_bytes(), real.stat().st_mode & 0o777) == (
        True,
        b"new",
        0o604,
    )
    assert sorted(os.listdir(tmp_path)) == ["link", "real"]


@pytest.mark.parametrize("secret", [False, True])
def test_a_new_file_follows_the_umask_and_a_secret_one_is_the_owners_alone(tmp_path, secret):
    write_atomically(tmp_path / "a/b/new", b"", secret=secret)
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "a/b/new").stat().st_mode & 0o777 == (0o600 if secret else 0o666 & ~umask)


def test_what_cannot_be_written_is_a_sentence_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_atomically(tmp_path / "file/below", b"")
    assert os.listdir(tmp_path) == ["file"]


@needs_root
@pytest.mark.root
def test_what_root_makes_is_for_the_owner_of_the_folder_all_the_way_down(tmp_path):
    tmp_path.chmod(0o700)
    os.chown(tmp_path, THEIRS, THEIRS)
    make_folders(tmp_path / "a/b", 0o700)
    os.close(open_or_make(tmp_path / "a/b/made", os.O_WRONLY, 0o600))
    write_atomically(tmp_path / "a/b/written", b"")
    found = {path.name: path.stat() for path in tmp_path.rglob("*")}
    assert sorted(found) == ["a", "b", "made", "written"]
    assert {(about.st_uid, about.st_gid) for about in found.values()} == {(THEIRS, THEIRS)}


@needs_root
@pytest.mark.root
def test_roots_own_files_are_not_given_away_by_a_link_that_the_user_has_laid(tmp_path):
    """Else whoever plants a link where root will open a file becomes the owner of what it points to."""
    mine = tmp_path / "mine"
    mine.write_text("root's")
    folder = tmp_path / "theirs"
    folder.mkdir()
    os.chown(folder, THEIRS, THEIRS)
    (folder / "lock").symlink_to(mine)
    (folder / "conf").symlink_to(mine)
    os.close(open_or_make(folder / "lock", os.O_RDWR, 0o600))
    write_atomically(folder / "conf", b"written")
    assert (mine.stat().st_uid, mine.read_bytes()) == (0, b"written")
    os.close(open_or_make(mine, os.O_RDWR, 0o600))
    assert mine.stat().st_uid == 0


@needs_root
@pytest.mark.root
def test_root_makes_nothing_where_a_link_of_the_users_leads(tmp_path):
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        open_or_make(tmp_path / "lock", os.O_RDWR, 0o600)
    assert os.listdir(tmp_path) == ["lock"]
