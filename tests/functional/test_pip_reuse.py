"""pip's own cache as a source.

What it has is not fetched again, and serves when there is no network.
"""

import json
import os
import re
import sys
from pathlib import Path

import pytest

import clients


@pytest.fixture
def scene(request, origin_tls, home, tmp_path):
    """An https origin with a project, a pip whose cache holds it all (26.3 unless the test says otherwise), and an empty store."""
    origin = origin_tls
    origin.add_project("leaf", size=200_000)
    origin.add_project("root", requires=["leaf"], size=120_000)
    pip = clients.pip(getattr(request, "param", "26.3"))
    environment = clients.clean_environment(
        home, PIP_CERT=str(origin.ca_file), PIP_INDEX_URL=origin.index_url
    )
    arguments = [*pip, "download", "-q", "--disable-pip-version-check", "root", "-d"]
    done = clients.run([*arguments, tmp_path / "direct"], environment)
    assert done.returncode == 0, done.stderr
    assert origin.count("whl$") == 2
    origin.reset()
    return origin, arguments, environment, tmp_path


def through(scene, *options, target="through"):
    """The same command through a run; the run's report and what the command left behind."""
    _origin, arguments, environment, tmp_path = scene
    report = tmp_path / f"{target}.json"
    store = tmp_path / "store"
    # --no-cache-dir keeps pip itself from its cache: what comes, comes from us.
    run = [
        sys.executable,
        "-m",
        "entrepot",
        "run",
        "--store",
        store,
        "--report",
        report,
        *options,
        "--",
    ]
    command = [*run, *arguments, tmp_path / target, "--no-cache-dir"]
    result = clients.run(
        command,
        {**environment, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p.endswith("src"))},
    )
    return (
        json.loads(report.read_text()),
        sorted(p.name for p in (tmp_path / target).glob("*")),
        result,
    )


def test_with_a_full_pip_cache_and_an_empty_store_no_file_is_fetched(scene):
    origin = scene[0]
    report, files, result = through(scene)
    assert report["exit"] == 0, result.stderr
    assert [name.partition("-")[0] for name in files] == ["leaf", "root"]
    assert origin.count(r"\.whl$") == 0
    assert {e["outcome"] for e in report["entries"] if e["url"].endswith(".whl")} == {"hit"}


def test_bytes_that_the_store_and_pips_cache_hold_together_are_told_once(scene):
    """The bodies are linked.

    Cleaning the store gives nothing of them back, cleaning both gives them back once.
    """
    _origin, _, environment, tmp_path = scene
    through(scene)
    caches = [tmp_path / "store", Path(environment["HOME"]) / ".cache/pip"]
    if not any(path.stat().st_nlink > 1 for path in caches[0].rglob("bodies/*/*/*")):
        pytest.skip("this file system clones, or has no links")
    environment = {
        **environment,
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p.endswith("src")),
    }
    words = [sys.executable, "-m", "entrepot", "--store", caches[0], "--json"]

    def told(*more):
        return json.loads(clients.run([*words, *more], environment).stdout)

    assert told("status", "--tool", "pip,entrepot")["duplicates"]["wasted"] == 0
    wheels = 2 * 120_000
    before = used(caches)
    for tool, planned in (("entrepot", range(wheels)), ("pip,entrepot", range(wheels, before + 1))):
        plan = told("clean", "--all", "--force", "-n", "--tool", tool)
        assert plan["freed"] in planned, tool
    done = told("clean", "--all", "--force", "-y", "--tool", "entrepot")
    assert done["freed"] == before - used(caches) < wheels


def used(folders):
    """Bytes of disk below some directories, each inode once.

    What entrepot writes for itself left out.
    """
    paths = [
        path
        for folder in folders
        for path in folder.rglob("*")
        if path.parts[-2] != "locks" and "catalogue" not in path.name
    ]
    return sum(
        {(i.st_dev, i.st_ino): i.st_blocks * 512 for i in (path.lstat() for path in paths)}.values()
    )


def test_a_damaged_body_in_pips_cache_is_not_taken(scene):
    origin, _, environment, _ = scene
    wheels = [p for p in Path(environment["HOME"]).rglob("*.body") if p.stat().st_size > 100_000]
    assert len(wheels) == 2
    for body in wheels:
        data = bytearray(body.read_bytes())
        data[5_000] ^= 1
        body.write_bytes(data)
    report, files, result = through(scene)
    assert report["exit"] == 0, result.stderr
    assert origin.count(r"\.whl$") == 2
    assert len(files) == 2


def test_offline_from_pips_cache_alone_with_stale_pages_and_the_origin_gone(scene):
    origin = scene[0]
    origin.stop()
    report, files, result = through(scene, "--offline")
    assert report["exit"] == 0, result.stderr
    assert len(files) == 2


@pytest.mark.parametrize(
    ("scene", "layout"), [("26.3", "http-v2"), ("23.2.1", "http")], indirect=["scene"]
)
def test_offline_pip_installs_from_its_own_cache_alone_with_expired_pages(scene, layout):
    """`pip install` into a fresh environment.

    The store is empty, the origin gone, and the pages' time is over.
    """
    origin, arguments, environment, tmp_path = scene
    entries = [
        path
        for path in Path(environment["HOME"]).rglob(f"{layout}/?/?/?/?/?/*")
        if not path.name.endswith(".body")
    ]
    assert len(entries) >= 4
    for (
        path
    ) in entries:  # pip wrote max-age=600 or nothing: with the clock six years on, no page is fresh
        data = path.read_bytes()
        path.write_bytes(re.sub(rb"(\w{3}) 20\d\d (?=\d\d:)", rb"\1 2020 ", data))
    origin.stop()
    python = clients.venv(tmp_path / "fresh")
    report = tmp_path / "install.json"
    run = [
        sys.executable,
        "-m",
        "entrepot",
        "run",
        "--store",
        tmp_path / "store",
        "--report",
        report,
        "--offline",
        "--",
    ]
    pip = arguments[: arguments.index("download")]
    target = next((tmp_path / "fresh").glob("lib/python3*/site-packages"))
    install = [*pip, "install", "-q", "--disable-pip-version-check", "--target", target, "root"]
    result = clients.run(
        [*run, *install],
        {**environment, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p.endswith("src"))},
    )
    assert result.returncode == 0, result.stderr
    assert clients.run([python, "-c", "import root, leaf"], environment).returncode == 0
    assert not [
        entry for entry in json.loads(report.read_text())["entries"] if entry["outcome"] == "miss"
    ]


def entries_of_pip(environment):
    """The bodies in pip's cache: (path, content)."""
    found = [
        (path, path.read_bytes()) for path in sorted(Path(environment["HOME"]).rglob("*.body"))
    ]
    assert len(found) >= 4
    return found


def damage(environment, what, how):
    """Damage wheels or metadata files in pip's cache, each by one byte or wholly, as a power cut leaves it."""
    begins = {"wheel": b"PK", "metadata": b"Metadata-Version"}[what]
    chosen = [(path, data) for path, data in entries_of_pip(environment) if data.startswith(begins)]
    assert len(chosen) == 2
    for path, data in chosen:
        path.write_bytes(
            bytes(len(data))
            if how == "zeroed"
            else data[:-30] + bytes([data[-30] ^ 1]) + data[-29:]
        )


def listed(scene):
    """Kinds of what the store holds."""
    _origin, _, environment, tmp_path = scene
    environment = {
        **environment,
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p.endswith("src")),
    }
    words = [
        sys.executable,
        "-m",
        "entrepot",
        "list",
        "--tool",
        "entrepot",
        "--store",
        tmp_path / "store",
        "--json",
    ]
    return {
        entry["kind"] for entry in json.loads(clients.run(words, environment).stdout)["entries"]
    }


def offline(scene, *words, target="offline"):
    """A command in an offline run; its result."""
    _origin, _, environment, tmp_path = scene
    run = [
        sys.executable,
        "-m",
        "entrepot",
        "run",
        "--store",
        tmp_path / "store",
        "--offline",
        "--",
    ]
    environment = {
        **environment,
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p.endswith("src")),
    }
    return clients.run([*run, *words], environment, cwd=tmp_path)


@pytest.mark.parametrize("what", ["wheel", "metadata"])
@pytest.mark.parametrize("how", ["byte", "zeroed"])
@pytest.mark.parametrize("pages", ["pip", "store"])
def test_offline_a_damaged_body_in_pips_cache_is_refused_with_its_reason(scene, what, how, pages):
    """The page that names its digest is in pip's cache as well, or in the store from an online run."""
    origin, arguments, environment, tmp_path = scene
    if pages == "store":
        pip = arguments[: arguments.index("download")]
        run = [sys.executable, "-m", "entrepot", "run", "--store", tmp_path / "store", "--"]
        paths = {
            **environment,
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p.endswith("src")),
        }
        for project in ("root", "leaf"):
            done = clients.run([*run, *pip, "index", "versions", project, "--no-cache-dir"], paths)
            assert done.returncode == 0, done.stderr
    damage(environment, what, how)
    origin.stop()
    report, files, result = through(scene, "--offline")
    assert report["exit"] != 0
    assert files == []
    assert re.search(
        r"pip's cached copy of root-[\w.-]+ does not match the digest that its index page names",
        result.stderr,
    )
    assert not any(
        e["outcome"] != "error" and what in e["url"].replace(".whl", ".wheel")[-9:]
        for e in report["entries"]
    )
    assert listed(scene) == {"page"} if what == "metadata" else {"page", "metadata"}


def test_offline_a_damaged_body_reaches_no_client_whole_by_a_hash_in_a_requirement_file(scene):
    origin, arguments, environment, tmp_path = scene
    [leaf] = origin.files("leaf")
    (tmp_path / "requirements.txt").write_text(
        f"leaf @ {origin.url(leaf)} --hash=sha256:{leaf.content.sha256}\n"
    )
    pip = arguments[: arguments.index("download")]
    command = [
        *pip,
        "download",
        "--no-deps",
        "--no-cache-dir",
        "-d",
        tmp_path / "got",
        "-r",
        "requirements.txt",
    ]
    damage(environment, "wheel", "byte")
    origin.stop()
    refused = offline(scene, *command)
    assert refused.returncode != 0
    assert not list((tmp_path / "got").glob("*.whl"))
    assert "does not match the digest that requirements.txt names" in refused.stderr.replace(
        f"{tmp_path}/", ""
    )
    assert listed(scene) == set()


def test_offline_curl_gets_no_damaged_wheel_whole(scene):
    origin, _, environment, tmp_path = scene
    [leaf] = origin.files("leaf")
    damage(environment, "wheel", "zeroed")
    origin.stop()
    script = f"curl -sS -H 'Accept: application/vnd.pypi.simple.v1+json' {origin.index_url}leaf/ -o page; "
    done = offline(
        scene, "bash", "-c", f"{script} curl -sSf {origin.url(leaf)} -o wheel; echo curl says $?"
    )
    assert "curl says 22" in done.stdout, done.stdout + done.stderr
    assert not (tmp_path / "wheel").exists()
    assert "does not match the digest that its index page names" in done.stderr
