"""`entrepot warm` with conda's lists, locks and environment files, and the offline install after it, with the real rattler."""

import json
import os
import sys
from pathlib import Path

import pytest

import clients
from entrepot.testing.channel import Channel
from entrepot.testing.origin import Origin
from running import Desk

HERE = Path(__file__).resolve().parent.parent
SOLVE, LOCKS = HERE / "rattling.py", HERE / "rattling_locks.py"


@pytest.fixture
def origin():
    with Origin(tls=True, name="channel.test") as running:
        running.add_project("leaf")
        yield running


@pytest.fixture
def channel(origin):
    made = Channel(origin, path="/lab")
    made.add("demo", "1.0", depends=["low"])
    made.add("demo", "2.0", depends=["low"], extension=".tar.bz2")
    made.add("low", subdir="linux-64", size=200_000)
    made.publish()
    return made


@pytest.fixture
def desk(origin, channel, tmp_path):
    return Desk.under(tmp_path, origin, PIP_INDEX_URL=origin.index_url, CONDA_SUBDIR="linux-64")


def warm(desk, *argv, **environ):
    return clients.run(
        [sys.executable, "-m", "entrepot", "warm", *argv], desk.environ | environ, cwd=desk.project
    )


def outcomes(done):
    return {item["item"]: item["status"] for item in json.loads(done.stdout)["items"]}


def explicit(channel, algorithm="sha256"):
    lines = [
        f"{channel.package_url(p)}#{p.record[algorithm]}"
        for p in channel.packages
        if p.record["version"] != "2.0"
    ]
    return "# platform: linux-64\n@EXPLICIT\n" + "\n".join(lines) + "\n"


def install_offline(desk, file):
    ran = desk.run(
        *clients.rattler(),
        LOCKS,
        "install",
        file,
        desk.root / "cache",
        desk.root / "env",
        options=["--offline"],
    )
    assert ran.status == 0, ran.said
    assert (desk.root / "env/share/demo/data.bin").stat().st_size == 1000
    assert (desk.root / "env/share/low/data.bin").stat().st_size == 200_000


@pytest.mark.parametrize(("option", "algorithm"), [("--explicit", "md5"), ("-r", "sha256")])
def test_what_an_explicit_list_names_installs_offline_afterwards(
    desk, origin, channel, option, algorithm
):
    desk.write({"list.txt": explicit(channel, algorithm)})
    done = warm(desk, option, "list.txt", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcomes(done) == {"demo-1.0-h0_0.conda": "ready", "low-1.0-h0_0.conda": "ready"}
    assert json.loads(done.stdout)["bytes_downloaded"] > 200_000
    assert origin.count("repodata") == 0
    origin.stop()
    install_offline(desk, "list.txt")


def test_a_lock_of_rattlers_own_for_several_platforms_brings_this_ones(desk, origin, channel):
    made = desk.run(
        *clients.rattler(),
        LOCKS,
        "lock",
        channel.url,
        desk.root / "c",
        "pixi.lock",
        "demo ==1.0",
        options=["--no-store"],
    )
    assert made.status == 0, made.said
    done = warm(desk, "--lock", "pixi.lock", "--platform", "osx-arm64", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcomes(done) == {"demo-1.0-h0_0.conda": "ready", "low-1.0-h0_0.conda": "not needed"}
    assert [
        item["why"] for item in json.loads(done.stdout)["items"] if item["status"] == "not needed"
    ] == ["for linux-64"]
    done = warm(desk, "-f", "pixi.lock", "--json")
    assert outcomes(done) == {"demo-1.0-h0_0.conda": "ready", "low-1.0-h0_0.conda": "ready"}
    origin.stop()
    install_offline(desk, "pixi.lock")


def test_an_archive_with_another_digest_is_named_and_not_kept(desk, origin, channel):
    good, wrong = channel.packages[0], channel.packages[2]
    text = f"@EXPLICIT\n{channel.package_url(good)}#{good.content.sha256}\n{channel.package_url(wrong)}#{'0' * 64}\n"
    gone = f"{channel.url}/noarch/gone-1.0-h0_0.conda"
    desk.write({"list.txt": f"{text}{gone}#{'1' * 64}\n"})
    done = warm(desk, "--explicit", "list.txt", "--json")
    assert done.returncode == 3, done.stdout + done.stderr
    assert outcomes(done) == {
        "demo-1.0-h0_0.conda": "ready",
        "low-1.0-h0_0.conda": "failed",
        "gone-1.0-h0_0.conda": "failed",
    }
    whys = {item["item"]: item["why"] for item in json.loads(done.stdout)["items"]}
    assert "sha256" in whys["low-1.0-h0_0.conda"]
    assert "404" in whys["gone-1.0-h0_0.conda"] or "Not Found" in whys["gone-1.0-h0_0.conda"]
    origin.stop()
    listed = clients.run(
        [
            sys.executable,
            "-m",
            "entrepot",
            "list",
            "--tool",
            "entrepot",
            "--kind",
            "archive",
            "--json",
        ],
        desk.environ,
    )
    names = [entry["filename"] for entry in json.loads(listed.stdout)["entries"]]
    assert "demo-1.0-h0_0.conda" in names
    assert "low-1.0-h0_0.conda" not in names


def test_what_a_store_cannot_keep_is_not_called_ready(desk, channel):
    """By its cap the larger one has to go again, the other too if it is older.

    And a store that cannot be written keeps none.
    """
    desk.write({"list.txt": explicit(channel)})
    done = warm(desk, "-f", "list.txt", "--json", ENTREPOT_LIMIT="100kB")
    assert done.returncode in {1, 3}, done.stdout + done.stderr
    assert outcomes(done)["low-1.0-h0_0.conda"] == "failed"
    done = warm(desk, "-f", "list.txt", "--json", ENTREPOT_STORE="/proc/none")
    assert done.returncode == 1, done.stdout + done.stderr
    assert set(outcomes(done).values()) == {"failed"}
    assert "not kept" in json.loads(done.stdout)["items"][0]["why"]


def rattler_beside(desk) -> dict[str, str]:
    """Variables that let entrepot's own Python import py-rattler, as the extra does."""
    packages = next(Path(clients.rattler()[0]).parent.parent.glob("lib/python*/site-packages"))
    return {"PYTHONPATH": os.pathsep.join([desk.environ["PYTHONPATH"], str(packages)])}


def environment_file(channel, *specs, more=""):
    return (
        f"name: lab\nchannels: [{channel.url}, nodefaults]\ndependencies:\n"
        + "".join(f"- {s}\n" for s in specs)
        + more
    )


def test_an_environment_file_is_solved_by_py_rattler_and_solves_and_installs_offline_afterwards(
    desk, origin, channel
):
    desk.write({"environment.yml": environment_file(channel, "demo=1")})
    done = warm(desk, "--env", "environment.yml", "--json", **rattler_beside(desk))
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcomes(done) == {"demo-1.0-h0_0.conda": "ready", "low-1.0-h0_0.conda": "ready"}
    origin.stop()
    ran = desk.run(
        *clients.rattler(),
        SOLVE,
        channel.url,
        desk.root / "c",
        desk.root / "env",
        "demo=1",
        options=["--offline"],
    )
    assert ran.status == 0, ran.said
    records = [
        json.loads(path.read_text()) for path in (desk.root / "env/conda-meta").glob("demo-*.json")
    ]
    assert [record["url"] for record in records] == [channel.package_url(channel.packages[0])]


def test_an_environment_file_is_solved_for_another_platform_with_what_is_assumed_of_it(
    desk, channel
):
    desk.write({"environment.yml": environment_file(channel, "demo=1")})
    done = warm(
        desk,
        "--env",
        "environment.yml",
        "--platform",
        "osx-arm64",
        "--json",
        **rattler_beside(desk),
    )
    (failed,) = json.loads(done.stdout)["items"]
    # the channel has nothing for it, which is the solver's own word: it has got that far
    assert "low" in failed["why"], failed


def test_what_cannot_be_solved_is_one_failed_item_with_the_solvers_reason(desk, channel):
    desk.write({"environment.yml": environment_file(channel, "demo=7")})
    done = warm(desk, "--env", "environment.yml", "--json", **rattler_beside(desk))
    assert done.returncode == 1, done.stdout + done.stderr
    assert outcomes(done) == {"environment.yml": "failed"}
    assert "demo" in json.loads(done.stdout)["items"][0]["why"]


def test_without_any_solver_it_is_said_what_is_missing_and_what_to_do(desk, channel):
    desk.write({"environment.yml": environment_file(channel, "demo")})
    done = warm(desk, "--env", "environment.yml")
    assert done.returncode == 2
    assert "must be solved" in done.stderr
    assert "entrepot[conda]" in done.stderr
    assert "--lock" in done.stderr


FAKE = """#!{python}
import json, os, sys, urllib.request
words = sys.argv[1:]
assert words[0] == "create" and "--dry-run" in words and "--override-channels" in words, words
channel = words[words.index("-c") + 1]
assert words[-1] == "demo=1", words
assert not os.listdir(os.environ["CONDA_PKGS_DIRS"]) if os.path.isdir(os.environ["CONDA_PKGS_DIRS"]) else True
found = {{}}
for subdir in ("noarch", os.environ["CONDA_SUBDIR"]):
    data = json.load(urllib.request.urlopen(f"{{channel}}/{{subdir}}/repodata.json"))
    found |= {{r["name"]: r | {{"url": f"{{channel}}/{{subdir}}/{{fn}}"}} for fn, r in data["packages.conda"].items()}}
print(json.dumps({{"success": True, "actions": {{
    "FETCH": [found["demo"]],
    "LINK": [{{"dist_name": "low-1.0-h0_0", "channel": "lab"}}, {{"dist_name": "demo-1.0-h0_0", "channel": "lab"}}],
}}}}))
"""


def test_conda_on_the_path_solves_through_the_door_and_what_its_caches_hold_is_known_by_its_record(
    desk, origin, channel
):
    """A stand-in for conda.

    It asks for repodata as led, and leaves out of FETCH what another of its caches holds, as conda
    does.
    """
    program = desk.root / "bin/conda"
    program.parent.mkdir()
    program.write_text(FAKE.format(python=sys.executable))
    program.chmod(0o755)
    low = channel.packages[2]
    record = low.record | {"url": channel.package_url(low)}
    desk.write(
        {
            "~/.conda/pkgs/urls.txt": "",
            "~/.conda/pkgs/low-1.0-h0_0/info/repodata_record.json": json.dumps(record),
            "environment.yml": environment_file(channel, "demo=1"),
        }
    )
    done = warm(
        desk, "-f", "environment.yml", "--json", PATH=f"{program.parent}:{desk.environ['PATH']}"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcomes(done) == {"demo-1.0-h0_0.conda": "ready", "low-1.0-h0_0.conda": "ready"}
    assert origin.count("repodata.json$") == 2
    desk.write({"list.txt": explicit(channel)})
    origin.stop()
    install_offline(desk, "list.txt")


@pytest.mark.slow
def test_the_pip_section_of_an_environment_file_goes_pips_way(desk, origin, channel):
    more = "- pip\n- pip:\n  - -r more.txt\n"
    desk.write(
        {
            "environment.yml": "dependencies:\n" + more.replace("- pip\n", "", 1),
            "more.txt": "leaf\n",
        }
    )
    done = warm(
        desk, "--env", "environment.yml", "--python", str(clients.pip_python("26.3")), "--json"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcomes(done) == {"leaf": "ready"}
