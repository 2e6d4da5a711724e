"""What a lock file says is believed.

Its hashes verify what is stored, and what contradicts it is stored nowhere.
"""

from __future__ import annotations

import re
import shutil

import pytest

import clients
from acceptance import FILES, Lab
from entrepot.testing import profiles
from entrepot.testing.origin import Origin

COUNT = 6
pytestmark = pytest.mark.slow


@pytest.fixture(params=["http", "https"])
def origin(request):
    """Index and files on two addresses, no caching fields."""
    named = (
        {"tls": True, "name": "index.test", "files_name": "files.test"}
        if request.param == "https"
        else {}
    )
    with Origin(files_host="127.0.0.2", profile=profiles.bare, **named) as running:
        yield running


def locked(lab, origin, names):
    """A project with the uv.lock that uv itself makes of these names, through a ``run`` over another store."""
    user = lab.fresh()
    wanted = ", ".join(f'"{name}"' for name in names)
    index = f'[[tool.uv.index]]\nname = "own"\nurl = "{origin.index_url}"\ndefault = true\n'
    project = f'[project]\nname = "mine"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = [{wanted}]\n{index}'
    (user / "pyproject.toml").write_text(project)
    other = lab.root / "other-store"
    lab.run(*clients.uv(), "lock", "-q", user=user, ENTREPOT_STORE=str(other)).ok()
    shutil.rmtree(other)
    origin.reset()
    return user


def sync(lab, project):
    """``uv sync`` of the project's copy by a user who has nothing."""
    user = lab.fresh()
    for name in ("pyproject.toml", "uv.lock"):
        shutil.copy(project / name, user)
    ran = lab.run(*clients.uv(), "sync", "-q", user=user, UV_HTTP_RETRIES="0")
    installed = {
        path.name.removesuffix(".dist-info") for path in (user / ".venv").rglob("synth_*.dist-info")
    }
    return ran, installed


EVERYTHING = {f"synth_{i:04d}-1.1" for i in range(COUNT)}


def test_uv_sync_from_a_lock_into_an_empty_store_caches_files_verified_by_the_lock_and_then_fetches_nothing(
    tmp_path, origin
):
    lab = Lab(tmp_path, (origin,))
    project = locked(lab, origin, origin.synth(COUNT))
    first, installed = sync(lab, project)
    first.ok()
    assert installed == EVERYTHING
    assert origin.count(FILES) == COUNT
    assert origin.count("^/simple/") == 0, "no page: the lock alone has told the hashes"
    told = set(re.findall(r"sha256:([0-9a-f]{64})", (project / "uv.lock").read_text()))
    kept = [head for head in lab.heads() if head.kind == "wheel"]
    assert len(kept) == COUNT
    assert {
        digest.value for head in kept for digest in head.proven if digest.algorithm == "sha256"
    } <= told
    assert all(head.proven for head in kept)
    assert lab.bodies() <= told
    origin.reset()
    second, installed = sync(lab, project)
    second.ok()
    assert installed == EVERYTHING
    assert origin.log == []
    assert second.report["misses"] == second.report["revalidated"] == 0
    assert second.report["uncached_hosts"] == {}


def test_uv_sync_from_a_lock_works_offline(tmp_path, origin):
    lab = Lab(tmp_path, (origin,))
    project = locked(lab, origin, origin.synth(COUNT))
    sync(lab, project)[0].ok()
    origin.stop()
    user = lab.fresh()
    for name in ("pyproject.toml", "uv.lock"):
        shutil.copy(project / name, user)
    lab.run(*clients.uv(), "sync", "-q", user=user, options=("--offline",)).ok()


def with_wrong_hash(project, filename):
    """Make the lock name another digest for this file."""
    lock = project / "uv.lock"
    text = lock.read_text()
    changed = re.sub(
        rf'({re.escape(filename)}", hash = "sha256:)[0-9a-f]{{64}}', rf"\g<1>{'0' * 64}", text
    )
    assert changed != text
    lock.write_text(changed)


def test_a_lock_with_a_wrong_hash_stores_nothing_wrong_and_spoils_no_later_run(tmp_path, origin):
    lab = Lab(tmp_path, (origin,))
    names = origin.synth(COUNT)
    project = locked(lab, origin, names)
    wrong = next(file for file in origin.files("synth-0001") if file.version == "1.1")
    with_wrong_hash(project, wrong.filename)
    failed, _ = sync(lab, project)
    assert failed.status != 0
    assert wrong.content.sha256 not in lab.bodies()
    assert not [head for head in lab.heads() if head.filename == wrong.filename]
    assert "0" * 64 not in lab.bodies()
    assert lab.install("26.3", names).ok().installed() >= EVERYTHING
    again, _ = sync(lab, project)
    assert again.status != 0, "what is stored by now does not agree with the lock either"


def test_what_a_wrong_lock_said_is_forgotten_with_its_run(tmp_path, origin):
    """The page was read before the lock came, and is not read again when a 304 confirms it."""
    origin.profile = profiles.validators_only
    lab = Lab(tmp_path, (origin,))
    names = origin.synth(3)
    project = locked(lab, origin, names)
    wrong = next(file for file in origin.files("synth-0001") if file.version == "1.1")
    with_wrong_hash(project, wrong.filename)
    lab.install("26.3", ["synth-0001==1.0"]).ok()
    assert sync(lab, project)[0].status != 0
    lab.install("26.3", ["synth-0001==1.1"]).ok()


@pytest.mark.parametrize("tool", ["20.3.4", "26.3", "uv"])
def test_require_hashes_verifies_and_fetches_once(tmp_path, tool):
    with Origin(files_host="127.0.0.2", profile=profiles.bare) as origin:
        lab = Lab(tmp_path, (origin,))
        files = [file for i in range(3) for file in origin.add_project(f"plain-{i}")]
        lines = [
            f"plain-{i}==1.0 --hash=sha256:{file.content.sha256}\n" for i, file in enumerate(files)
        ]
        requirements = tmp_path / "in.txt"
        requirements.write_text("".join(lines))
        for _ in range(2):
            lab.install(tool, [], "--require-hashes", "-r", str(requirements)).ok()
        assert origin.count(FILES) == 3
        wheels = [head for head in lab.heads() if head.kind == "wheel"]
        assert {head.body.value for head in wheels} == {file.content.sha256 for file in files}
        assert all(head.proven for head in wheels)


@pytest.mark.parametrize("tool", ["23.2.1", "uv"])
def test_require_hashes_proves_files_of_an_index_that_names_no_digests(tmp_path, tool):
    with Origin(profile=profiles.bare) as origin:
        lab = Lab(tmp_path, (origin,))
        file = origin.add_project("plain")[0]
        page = f'<a href="{origin.url(file)}">{file.filename}</a>'.encode()
        links = origin.add("/links.html", page, "page", "text/html")
        requirements = tmp_path / "in.txt"
        requirements.write_text(f"plain==1.0 --hash=sha256:{file.content.sha256}\n")
        for _ in range(2):
            origin.reset()
            lab.install(
                tool,
                [],
                "--no-index",
                "--find-links",
                links,
                "--require-hashes",
                "-r",
                str(requirements),
            ).ok()
        assert origin.count(FILES) == 0
        assert next(head for head in lab.heads() if head.kind == "wheel").proven


@pytest.mark.parametrize("tool", ["24.3.1", "uv"])
def test_a_wrong_hash_in_a_requirement_file_stores_nothing_wrong(tmp_path, tool):
    with Origin(profile=profiles.bare) as origin:
        lab = Lab(tmp_path, (origin,))
        file = origin.add_project("plain")[0]
        requirements = tmp_path / "in.txt"
        requirements.write_text(f"plain==1.0 --hash=sha256:{'0' * 64}\n")
        failed = lab.install(tool, [], "--require-hashes", "-r", str(requirements))
        assert failed.status != 0
        assert lab.bodies() <= {file.content.sha256, *_pages(lab)}
        lab.install(tool, ["plain"]).ok()


def _pages(lab):
    return {
        head.body.value for head in lab.heads() if head.kind in ("page", "metadata") and head.body
    }
