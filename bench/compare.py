"""What two versions of entrepot say and do in the same home, byte by byte.

    python bench/compare.py OLD/bin/entrepot NEW/bin/entrepot [DIRECTORY]

Makes a home with the caches of all tools by real clients (three pips, two uvs, py-rattler, conda's
layout made by hand) and with damage in them, runs the commands below in a fresh copy of it with
each version, and prints every difference of output, exit status and of what is left on the disk.
JSON is compared as values; times of day, free space and the interpreter of entrepot itself are left
out. `NOT_COMPARED` names facts that were taken out of the JSON on purpose.
"""

import difflib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]

import clients  # noqa: E402
import pip_lab  # noqa: E402
import uv_lab  # noqa: E402
from conda_lab import Lab as CondaLab  # noqa: E402
from entrepot.testing.channel import Channel  # noqa: E402
from entrepot.testing.origin import Origin  # noqa: E402

NOT_COMPARED = {"stamp"}
PIPS = ("20.3.4", "23.2.1", "26.3")
UVS = ("0.8.24", "0.13.9")
COMMANDS = """
status
status --json
list
list --json
list --kind wheel --json
list demo --json
where --json
where pip --json
verify
verify --json
config pip list --json
config uv list --json
config conda list --json
clean -n --json
clean --all -n
clean --all -n --json
clean --all --force -n --json
clean --older 1d -n --json
clean --unused -n --json
clean --to 200kB -n --json
remove pure -n --json
remove demo -n --json
verify --repair --json
clean -y --json
clean --all --force -y --json
list --json
status --json
"""


def fill(base: Path) -> None:
    """Make `base/home` and a copy of it, `base/saved`."""
    home = base / "home"
    home.mkdir()
    _pip(base, home)
    with Origin() as origin:
        uv_lab.fill_origin(origin)
        for version in UVS:
            uv_lab.Lab(version, base / f"uv-{version}", origin, cache=home / ".cache/uv").fill()
    _conda(home)
    with Origin() as origin:
        channel = Channel(origin)
        channel.add("rat", "1.0")
        channel.add("rat-two", "1.0")
        channel.publish()
        words = [ROOT / "tests/rattling.py", channel.url, home / ".cache/rattler/cache"]
        command = [*clients.rattler(), *words, home / "envs/rat", "rat", "rat-two"]
        clients.run(list(map(str, command)), clients.clean_environment(home), cwd=base)
    _settings(home)
    _damage(home)
    _age(home, time.time() - 3 * 86_400)
    subprocess.run(["cp", "-a", home, base / "saved"], check=True)
    (base / "bin").symlink_to(clients.pip_python("26.3").parent)


def _pip(base: Path, home: Path) -> None:
    index = pip_lab.Index()
    for name in ("pure", "other", "third"):
        for version in ("1.0", "2.0"):
            index.add(*pip_lab.wheel_bytes(name, version))
    index.add(*pip_lab.sdist_bytes("native", "0.5"))
    origin = pip_lab.Origin(index, base)
    environ = pip_lab.clean_environ(home, PIP_CERT=str(origin.ca))
    for version in PIPS:
        for wanted in ("pure", "other", "native", "third==1.0"):
            words = ["install", "-q", "-i", f"{origin.base}/simple/", "--target"]
            pip_lab.run_pip(
                version, *words, str(base / f"{version}-{wanted}"), wanted, environ=environ
            )
    origin.close()


def _conda(home: Path) -> None:
    lab = CondaLab(home)
    demo, other = lab.package("demo"), lab.package("other", size=30_000)
    third = lab.package("third", extension=".tar.bz2")
    lab.package("unused", "2.0")
    lab.environment(home / "envs/one", [demo, other], "hard")
    lab.environment(home / "envs/two", [third], "symbolic")
    lab.environment(home / "envs/three", [other], "copy")
    with (lab.cache / "urls.txt").open("a") as file:
        file.write("https://channel.test/c/noarch/gone-1.0-0.conda\n")
    (lab.cache / "stray.txt").write_text("x")
    (lab.cache / "half-1.0-0/info").mkdir(parents=True)


def _settings(home: Path) -> None:
    for name, text in {
        ".config/pip/pip.conf": "[global]\ntimeout = 60 # x\n\n[install]\nno-compile = yes\n",
        ".config/uv/uv.toml": '# mine\nlink-mode = "copy"\n',
        ".condarc": "channels:\n  - conda-forge # best\nssl_verify: true\n",
    }.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)


def _damage(home: Path) -> None:
    entries = sorted((home / ".cache/pip/http-v2").rglob("*"))
    heads = [path for path in entries if path.is_file() and path.suffix != ".body"]
    heads[0].write_bytes(b"junk")
    heads[1].unlink()


def _age(home: Path, moment: float) -> None:
    for folder, _, names in os.walk(home, topdown=False):
        for name in (*names, "."):
            os.utime(os.path.join(folder, name), (moment, moment), follow_symlinks=False)


def restore(base: Path) -> None:
    """A fresh copy, whose files nobody has read since they were written."""
    shutil.rmtree(base / "home")
    subprocess.run(["cp", "-a", base / "saved", base / "home"], check=True)
    for folder, _, names in os.walk(base / "home", topdown=False):
        for name in (*names, "."):
            path = os.path.join(folder, name)
            written = os.lstat(path).st_mtime_ns
            os.utime(path, ns=(written, written), follow_symlinks=False)


def answers(program: str, base: Path) -> dict[str, str]:
    """What a version says to each command, and what it leaves."""
    restore(base)
    home = base / "home"
    path = f"{base / 'bin'}:/usr/bin:/bin"
    environ = {"HOME": str(home), "PATH": path, "LANG": "C.UTF-8", "COLUMNS": "100"}
    python = re.escape(str(Path(program).parent))
    found = {}
    for number, words in enumerate(COMMANDS.split("\n")):
        if not words:
            continue
        done = subprocess.run(
            [program, *words.split()],
            env=environ,
            cwd=base,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        text = f"{_pretty(done.stdout)}\n-- stderr\n{done.stderr}\n-- exit {done.returncode}"
        text = re.sub(rf"pip [\d.]+ \({python}/\S*\)", "pip of entrepot", text)
        text = re.sub(r"20\d\d-\d\d-\d\dT[\d:]+Z", "TIME", text)
        text = re.sub(r"[\d.]+ .B of [\d.]+ .B free, \d+ %", "FREE", text)
        found[f"{number} {words}"] = re.sub(r'"(free|files_free)": \d+', r'"\1": N', text)
    script = r'find . -printf "%y %P %s %n\n" | grep -v entrepot | sort'
    found["the home"] = subprocess.run(
        script, shell=True, cwd=home, capture_output=True, text=True
    ).stdout
    return found


def _pretty(text: str) -> str:
    def without(value: object) -> object:
        if isinstance(value, dict):
            return {k: without(v) for k, v in value.items() if k not in NOT_COMPARED}
        return [without(each) for each in value] if isinstance(value, list) else value

    try:
        return json.dumps(without(json.loads(text)), indent=1, sort_keys=True)
    except ValueError:
        return text


def main(old: str, new: str, folder: str = "") -> None:
    """Print the differences."""
    with tempfile.TemporaryDirectory(dir=folder or None) as made:
        base = Path(made)
        fill(base)
        before, after = (answers(os.path.abspath(program), base) for program in (old, new))
    differing = [name for name, text in before.items() if text != after[name]]
    for name in differing:
        print(f"===== {name}")
        lines = (before[name].split("\n"), after[name].split("\n"))
        print("\n".join(difflib.unified_diff(*lines, "old", "new", lineterm="", n=2)))
    print(f"{len(differing)} of {len(before)} differ")


if __name__ == "__main__":
    main(*sys.argv[1:])
