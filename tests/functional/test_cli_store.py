"""The verbs over a real store on a real disk, each as a process."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from entrepot.store.directory import DirectoryStore
from own_store import World

SOURCE = Path(__file__).parents[2] / "src"


class Machine:
    """A home directory with a store in it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.root = home / ".cache/entrepot"
        self.world = World(self.root, time.time())

    def environ(self, **more: str) -> dict[str, str]:
        keep = {
            name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ
        }
        return {
            **keep,
            "HOME": str(self.home),
            "PYTHONPATH": str(SOURCE),
            "XDG_CONFIG_DIRS": str(self.home / "site"),
            **more,
        }

    def write(self, *, catalogue: bool = True) -> None:
        """Close the store that was filled; without its catalogue if that is to be lost."""
        self.world.catalogue.count(hits=7, bytes_from_cache=1_500_000)
        self.world.close()
        if not catalogue:
            for path in self.root.glob("catalogue.sqlite*"):
                path.unlink()

    def run(self, *argv: str, **environ: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "entrepot", *argv]
        return subprocess.run(
            command,
            env=self.environ(**environ),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def json(self, *argv: str) -> dict:
        return json.loads(self.run(*argv, "--json").stdout)

    def disk(self) -> int:
        """Bytes of disk below ``bodies`` and ``heads``, directories counted, as du does."""
        paths = [p for top in ("bodies", "heads") for p in (self.root / top).rglob("*")]
        return sum(p.lstat().st_blocks * 512 for p in paths)


@pytest.fixture
def machine(tmp_path):
    machine = Machine(tmp_path)
    for number in range(12):
        url = f"https://files.test/pkg{number % 4}-{number}.0-py3-none-any.whl"
        machine.world.add(
            url,
            b"%d" % number * 20_000,
            project=f"pkg{number % 4}",
            version=f"{number}.0",
            days=number * 10,
        )
    machine.world.add(
        "https://index.test/simple/pkg1/",
        b"page" * 100,
        kind="page",
        proven=False,
        project="pkg1",
        version=None,
    )
    yield machine
    machine.world.close()


def test_status_sums_up_what_is_on_the_disk(machine):
    machine.write()
    (cache,) = machine.json("status", "--tool", "entrepot")["caches"]
    assert (cache["entries"], cache["files"], cache["exists"]) == (13, 26, True)
    assert cache["path"] == str(machine.root)
    assert cache["size"] == sum(len(b"%d" % n) * 20_000 for n in range(12)) + 400
    heads, bodies = machine.root / "heads", machine.root / "bodies"
    mine = [
        *heads.glob("*/*"),
        *heads.glob("*/*/*"),
        *bodies.glob("*/*/*"),
    ]  # prefixes stay whoever goes
    assert cache["freeable"] == pytest.approx(sum(p.stat().st_blocks * 512 for p in mine), rel=0.02)
    everything = [machine.root, *machine.root.rglob("*")]
    assert cache["disk"] == pytest.approx(
        sum(p.stat().st_blocks * 512 for p in everything), rel=0.01
    )
    assert cache["disk"] == cache["overhead"] + cache["freeable"]
    assert sum(group["disk"] for group in cache["groups"].values()) == cache["disk"]
    assert cache["cap"] <= 20_000_000_000
    said = machine.run("status", "--tool", "entrepot").stdout
    assert "Saved so far: 1.5 MB (7 requests answered from the store)" in said


def test_a_lost_catalogue_is_made_again_by_looking(machine):
    machine.write(catalogue=False)
    assert machine.json("status", "--tool", "entrepot")["caches"][0]["entries"] == 13
    assert len(machine.json("list", "pkg1", "--tool", "entrepot")["entries"]) == 4


def test_what_is_freed_is_what_the_disk_gets_back(machine):
    machine.write()
    before = machine.disk()
    done = machine.json("clean", "--older", "55d", "-y", "--tool", "entrepot")
    assert len(done["removed"]) == 6
    assert done["freed"] > 0
    # a prefix's directory that several bodies emptied is counted once, by whoever emptied it
    assert before - machine.disk() == pytest.approx(done["freed"], rel=0.01)
    assert machine.run("verify", "--tool", "entrepot").returncode == 0


def test_a_plan_is_close_to_what_is_freed_then(machine):
    machine.write()
    plan = machine.json("clean", "--all", "-n", "--tool", "entrepot")
    done = machine.json("clean", "--all", "-y", "--tool", "entrepot")
    assert plan["freed"] <= done["freed"] <= plan["freed"] + len(done["removed"]) * 4 * 4096
    assert machine.json("list", "--tool", "entrepot")["entries"] == []


def test_clean_to_a_size_keeps_the_latest_used(machine):
    machine.write()
    machine.json("clean", "--to", "200kB", "-y", "--tool", "entrepot")
    left = machine.json("list", "--tool", "entrepot")
    assert 100_000 < left["total"]["disk"] <= 200_000
    assert {e["version"] for e in left["entries"] if e["kind"] == "wheel"} <= {
        "0.0",
        "1.0",
        "2.0",
        "3.0",
        "4.0",
        "5.0",
        "6.0",
    }


def test_remove_removes_the_files_themselves(machine):
    machine.write()
    heads = len(list((machine.root / "heads").rglob("0")))
    done = machine.run("remove", "pkg2", "-y", "--tool", "entrepot")
    assert done.returncode == 0
    assert len(list((machine.root / "heads").rglob("0"))) == heads - 3
    assert machine.run("list", "pkg2", "--tool", "entrepot").returncode == 1


def test_a_flipped_byte_is_found_and_repaired(machine):
    machine.write()
    body = max(
        (p for p in (machine.root / "bodies").rglob("*") if p.is_file()),
        key=lambda p: p.stat().st_size,
    )
    data = bytearray(body.read_bytes())
    data[100] ^= 1
    body.write_bytes(data)
    found = machine.run("verify", "--tool", "entrepot")
    assert found.returncode == 1
    assert "digest-mismatch" in found.stdout
    assert body.exists()
    assert machine.run("verify", "--repair", "--tool", "entrepot").returncode == 1
    assert not body.exists()
    assert machine.run("verify", "--tool", "entrepot").returncode == 0
    assert len(machine.json("list", "--tool", "entrepot")["entries"]) == 12


def test_after_the_machine_went_down_every_body_is_checked(machine):
    machine.write()
    (machine.root / "boot").write_text("another-boot open 0.000\n")
    done = machine.run("verify", "--tool", "entrepot")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok: 1 cache checked\n", "")
    body = next(p for p in (machine.root / "bodies").rglob("*") if p.is_file())
    body.write_bytes(bytes(body.stat().st_size))
    done = machine.run("verify", "--tool", "entrepot")
    assert (done.returncode, done.stdout.count("digest-mismatch")) == (1, 1)


def test_an_unfinished_download_goes_under_its_lock_or_stays_while_it_is_led(machine):
    machine.write()
    store = DirectoryStore(machine.root)
    flights = {name: store.open_partial(name) for name in ("1" * 40, "2" * 40)}
    led, left = flights
    for flight in flights.values():
        assert flight.try_lock()
        flight.write(b"x" * 9000)
        flight.set_state(b"note")
    flights[left].close()
    for path in (machine.root / "flights").glob("*.part"):
        os.utime(path, (1_600_000_000, 1_600_000_000))
    done = machine.run("clean", "-y", "--tool", "entrepot")
    assert done.returncode == 0
    assert "a download in progress" in done.stdout
    flights[led].close()
    store.close()
    assert {p.name for p in (machine.root / "flights").iterdir()} >= {f"{led}.part", f"{led}.note"}
    assert not list((machine.root / "flights").glob(f"{left}.*"))


def test_where_tells_why(machine, tmp_path):
    elsewhere = str(tmp_path / "else")
    done = machine.run("where", "entrepot", ENTREPOT_STORE=elsewhere)
    lines = done.stdout.splitlines()
    assert lines[0].split()[0] == "entrepot"
    assert "(not created yet)" in lines[0]
    assert lines[1].split()[2:] == ["ENTREPOT_STORE", "<-", "wins"]
    assert lines[2].split()[2:] == ["default", "not", "used"]
    assert machine.run("where", "entrepot", "--path", "--store", "/x/y").stdout == "/x/y\n"


@pytest.mark.parametrize(("answer", "left"), [("y", 9), ("", 12), ("n", 12)])
def test_on_a_terminal_the_plan_is_shown_and_asked_for(machine, answer, left):
    pty = pytest.importorskip("pty", reason="there are no pseudo-terminals here")
    machine.write()
    ours, theirs = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "entrepot",
        "remove",
        "pkg1",
        "--tool",
        "entrepot",
        "--kind",
        "wheel",
    ]
    child = subprocess.Popen(
        command, env=machine.environ(TERM="dumb"), stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    seen = b""
    while b"[y/N]" not in seen:
        seen += os.read(ours, 4096)
    assert b"To remove" in seen
    assert b"Frees" in seen
    os.write(ours, answer.encode() + b"\n")
    assert child.wait(timeout=60) == 0
    os.close(ours)
    wheels = [
        e for e in machine.json("list", "--tool", "entrepot")["entries"] if e["kind"] == "wheel"
    ]
    assert len(wheels) == left


def test_a_directory_that_is_no_store_is_left_alone(machine, tmp_path):
    mine = tmp_path / "mine"
    (mine / "heads").mkdir(parents=True)
    (mine / "thesis.txt").write_text("years of work")
    for argv in (["status"], ["clean", "--all", "-y"], ["verify", "--repair"]):
        done = machine.run(*argv, "--tool", "entrepot", "--store", str(mine))
        assert "Traceback" not in done.stderr
        assert done.returncode in {1, 3}, (argv, done)
    assert sorted(p.name for p in mine.iterdir()) == ["heads", "thesis.txt"]


def test_a_store_that_may_not_be_written_is_said_in_true_words(machine):
    if os.geteuid() == 0:
        pytest.skip("root may write everything")
    machine.write()
    for path in [machine.root, *machine.root.rglob("*")]:
        path.chmod(0o500 if path.is_dir() else 0o400)
    try:
        done = machine.run("remove", "pkg1", "-y", "--tool", "entrepot")
        assert done.returncode == 3
        assert "Traceback" not in done.stderr
        assert len(machine.json("list", "pkg1", "--tool", "entrepot")["entries"]) == 4
    finally:
        for path in [machine.root, *machine.root.rglob("*")]:
            path.chmod(0o700)


def test_a_reader_that_goes_away_is_no_failure(machine):
    machine.write()
    command = f"{sys.executable} -m entrepot list --tool entrepot | head -n 1"
    done = subprocess.run(
        ["sh", "-c", command],
        env=machine.environ(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""


@pytest.mark.parametrize(
    "argv", [["list", "--tool", "entrepot"], ["--help"], ["where", "--help"]], ids=" ".join
)
def test_output_into_a_closed_pipe_is_quiet(machine, argv):
    machine.write()
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "entrepot", *argv]
    done = subprocess.run(
        command,
        env=machine.environ(),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_a_stream_that_was_closed_from_the_start_is_no_failure(machine, closed):
    machine.write()
    command = f"{sys.executable} -m entrepot list --tool entrepot {closed}"
    done = subprocess.run(
        ["sh", "-c", command],
        env=machine.environ(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert ("pkg1" in done.stdout) == (">&-" not in closed.replace("2>&-", ""))


def test_ascii_output_where_the_terminal_is_not_utf_8(machine):
    machine.world.add("https://files.test/caf\u00e9.whl", b"x", project="caf\u00e9")
    machine.write()
    done = machine.run("list", "--tool", "entrepot", PYTHONIOENCODING="iso-8859-1")
    assert done.returncode == 0
    assert "caf?" in done.stdout


def test_an_interrupted_command_exits_130(machine):
    machine.write()
    config = machine.home / "pipe"
    os.mkfifo(config)  # reading the configuration waits for ever
    command = [sys.executable, "-m", "entrepot", "status"]
    child = subprocess.Popen(
        command, env=machine.environ(ENTREPOT_CONFIG=str(config)), stderr=subprocess.PIPE, text=True
    )
    with config.open("w"):  # opens when the child has opened it too
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=30)
    assert (child.returncode, err) == (130, "")


def test_verbs_that_run_together_leave_a_sound_store(machine):
    machine.write()
    argv = (
        ["clean", "--older", "50d", "-y"],
        ["remove", "pkg1", "-y"],
        ["verify", "--repair"],
        ["list"],
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "entrepot", *each, "--tool", "entrepot"],
            env=machine.environ(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for each in argv
    ]
    for child in children:
        assert "Traceback" not in child.communicate(timeout=60)[1]
    assert machine.run("verify", "--tool", "entrepot").returncode == 0
