"""A folder that is no store is left alone, and bytes that were changed on the disk are not served."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest

import clients
from entrepot.testing.origin import Origin
from running import Desk

LONG_AGO = 1_600_000_000


@pytest.fixture
def origin():
    with Origin(tls=True, name="index.test") as running:
        running.add_project("demo")
        yield running


@pytest.fixture
def desk(tmp_path, origin):
    return Desk.under(tmp_path / "desk", origin)


def fetched(desk, origin, *options: str, store: Path | None = None, pause_s: float = 0):
    """The page and then the file of the project, with curl; the run, and the file's sha256."""
    page, (file,) = f"{origin.index_url}demo/", origin.files("demo")
    out = desk.project / "out"
    out.unlink(missing_ok=True)
    ask = " ".join(clients.curl())
    script = f"{ask} -sf {page} -o page; {ask} -sf {origin.url(file)} -o {out}; sleep {pause_s}"
    if store is not None:
        desk.environ["ENTREPOT_STORE"] = str(store)
    ran = desk.run("sh", "-c", script, options=("--host", "index.test", *options))
    return ran, hashlib.sha256(out.read_bytes()).hexdigest() if out.exists() else ""


def right(origin: Origin) -> str:
    (file,) = origin.files("demo")
    return file.content.sha256


def tree(root: Path) -> dict[str, tuple[bytes, float]]:
    """Every file below a directory, with its content and time."""
    return {str(p): (p.read_bytes(), p.stat().st_mtime) for p in root.rglob("*") if p.is_file()}


def old(path: Path, text: str = "work") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


def old_folder(place: Path) -> None:
    for name in ("bodies/a.obj", "heads/b.obj", "flights/c.part", "flights/d.tmp", "locks/e"):
        old(place / name)


def old_links(place: Path) -> None:
    for name in ("bodies", "heads", "flights"):
        old(place.parent / "mine" / name / "a.part")
        place.mkdir(exist_ok=True)
        (place / name).symlink_to(place.parent / "mine" / name)


@pytest.mark.parametrize("make", [old_folder, old_links])
def test_a_folder_with_names_like_ours_is_left_alone(desk, origin, tmp_path, make):
    place = tmp_path / "data" / "set"
    make(place)
    before = tree(tmp_path / "data")
    names = sorted(os.listdir(place))
    ran, got = fetched(desk, origin, store=place, pause_s=1.5)  # time for a sweep
    assert (ran.status, got) == (0, right(origin)), ran.said
    assert str(place) in ran.last_line, ran.said
    assert "ENTREPOT_STORE" in ran.last_line, "how to put it right"
    for words in (("clean", "--all", "-y"), ("verify", "--repair"), ("list",), ("status",)):
        command = [*desk.words(())[:3], *words, "--tool", "entrepot"]
        said = clients.run(command, desk.environ, cwd=desk.project)
        assert "Traceback" not in said.stderr, said.stderr
    assert tree(tmp_path / "data") == before
    refused = desk.run("true", options=("--store", str(place)))
    assert refused.status == 125
    assert str(place) in refused.stderr
    assert tree(tmp_path / "data") == before
    assert sorted(os.listdir(place)) == names


def test_a_fresh_volume_becomes_a_store(desk, origin, tmp_path):
    place = tmp_path / "volume"
    for name in ("lost+found", ".Trash-1000", ".snapshots"):
        (place / name).mkdir(parents=True)
    ran, got = fetched(desk, origin, store=place)
    assert (ran.status, got) == (0, right(origin)), ran.said
    assert (place / "entrepot-store").exists()
    assert {"lost+found", ".Trash-1000", ".snapshots"} <= {p.name for p in place.iterdir()}


def test_a_sweep_and_a_cleaning_of_a_store_leave_what_is_not_its_own(desk, origin, tmp_path):
    place = tmp_path / "store"
    assert fetched(desk, origin, store=place)[1] == right(origin)
    theirs = tmp_path / "theirs"
    strange = [
        old(place / name)
        for name in (
            "notes.txt", "bodies/a.obj", "bodies/sha256/b.obj", "bodies/sha256/ab/c.obj",
            "bodies/my work/d", "heads/e.json", "heads/ab/f/0", "heads/ab/f/g.txt", "flights/h.part",
            "flights/i.tmp", "flights/j.txt", "flights/k.lock", "flights/my.note", "flights/sub/l.part",
        )
    ]  # fmt: skip
    linked = [old(theirs / name) for name in ("bodies/" + "0" * 62, "heads/" + "0" * 62 + "/0")]
    (place / "bodies/sha256/00").symlink_to(theirs / "bodies")
    (place / "heads/00").symlink_to(theirs / "heads")
    (place / "locks/swept").unlink(missing_ok=True)
    kept = {path: path.read_bytes() for path in (*strange, *linked)}
    assert fetched(desk, origin, pause_s=1.5)[1] == right(origin)  # the run sweeps, once a day
    for words in (("verify", "--repair"), ("clean", "--all", "-y")):
        command = [*desk.words(())[:3], *words, "--tool", "entrepot"]
        done = clients.run(command, desk.environ, cwd=desk.project)
        assert "Traceback" not in done.stderr, done.stderr
        assert {path: path.read_bytes() for path in kept if path.exists()} == kept, words


# -- bytes that were changed -----------------------------------------------------------------------


def body_of(desk: Desk, origin: Origin) -> Path:
    value = right(origin)
    return desk.store / "bodies/sha256" / value[:2] / value[2:]


def flip(path: Path) -> None:
    """Other bytes, of the same length, in place."""
    with path.open("r+b") as file:
        file.write(b"!!")


def flip_quietly(path: Path) -> None:
    """The same, and the time of the file put back."""
    found = path.stat()
    flip(path)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def replace(path: Path) -> None:
    """Another file in its place."""
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(b"!!" + data[2:])


@pytest.mark.parametrize("change", [flip, flip_quietly, replace])
@pytest.mark.parametrize("options", [(), ("--refresh",)], ids=["", "refresh"])
def test_a_changed_body_is_fetched_again_and_that_is_said_once(desk, origin, change, options):
    assert fetched(desk, origin)[1] == right(origin)
    change(body_of(desk, origin))
    ran, got = fetched(desk, origin, *options)
    assert got == right(origin)
    assert ran.stderr.count("changed on the disk") == 1, ran.said
    again, got = fetched(desk, origin)
    assert got == right(origin)
    assert "changed on the disk" not in again.stderr


def test_offline_a_body_that_was_changed_is_not_served(desk, origin):
    assert fetched(desk, origin)[1] == right(origin)
    flip(body_of(desk, origin))
    ran, got = fetched(desk, origin, "--offline")
    assert got == "", ran.said
    assert "changed on the disk" in ran.stderr


@pytest.mark.parametrize("lost", ["heads", "catalogue", "both"])
def test_a_right_download_replaces_a_stored_body_that_was_changed(desk, origin, lost):
    assert fetched(desk, origin)[1] == right(origin)
    flip(body_of(desk, origin))
    if lost in {"heads", "both"}:
        shutil.rmtree(desk.store / "heads")
    if lost in {"catalogue", "both"}:
        for path in desk.store.glob("catalogue*"):
            path.unlink()
    assert [fetched(desk, origin)[1] for _ in "12"] == [right(origin)] * 2
    assert hashlib.sha256(body_of(desk, origin).read_bytes()).hexdigest() == right(origin)


def test_a_changed_page_is_fetched_whole_again_although_its_validator_still_holds(desk, origin):
    origin.index_max_age = 0
    fetched(desk, origin)
    page = (desk.project / "page").read_bytes()
    value = hashlib.sha256(page).hexdigest()
    flip(desk.store / "bodies/sha256" / value[:2] / value[2:])
    fetched(desk, origin)
    assert (desk.project / "page").read_bytes() == page


def test_a_store_that_was_copied_serves_on_and_asks_upstream_for_no_file(desk, origin):
    assert fetched(desk, origin)[1] == right(origin)
    shutil.copytree(desk.store, desk.root / "copy")
    before = origin.count("whl$")
    for _ in "12":
        ran, got = fetched(desk, origin, store=desk.root / "copy")
        assert got == right(origin)
        assert "changed on the disk" not in ran.stderr
    assert origin.count("whl$") == before


NO_LOCKS = """
import fcntl, os
real = fcntl.flock
def flock(fd, operation):
    if "/store/" in os.readlink(f"/proc/self/fd/{fd if isinstance(fd, int) else fd.fileno()}"):
        raise OSError(37, "No locks available")
    return real(fd, operation)
fcntl.flock = flock
"""
"""A network file system whose locks do not work, below directories named store."""


def test_where_files_cannot_be_locked_the_run_says_so_and_works(desk, origin, tmp_path):
    (tmp_path / "no-locks").mkdir()
    (tmp_path / "no-locks/sitecustomize.py").write_text(NO_LOCKS)
    desk.environ["PYTHONPATH"] = f"{tmp_path / 'no-locks'}:{desk.environ.get('PYTHONPATH', '')}"
    runs = [fetched(desk, origin, store=tmp_path / "store") for _ in "12"]
    assert [(ran.status, got) for ran, got in runs] == [(0, right(origin))] * 2
    assert origin.count("whl$") == 1
    said = runs[0][0].said
    assert "file locking is unreliable on the store's file system" in said, said
