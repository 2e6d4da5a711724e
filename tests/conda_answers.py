"""Ask a real conda every question of ``conda_cases.py`` again, and name the answers that differ.

Run by hand; no test calls it.

    python tests/conda_answers.py PYTHON [WORD ...]

PYTHON runs conda (``~/miniconda3/bin/python``); it is only read. Every case gets a home and a root
prefix of its own: a bare virtual environment whose ``sys.prefix`` is the root, with that conda on
its path. WORDs choose the cases whose names hold one of them. Needs Linux, a machine without
condarc in ``/etc/conda`` and ``/var/lib/conda``, and about a second a case.

Without a conda of one's own: a checkout of conda/conda (and of conda/menuinst, which no index has)
named in a ``.pth`` file of a virtual environment with conda's dependencies, and a
``conda/_version.py`` that sets ``__version__``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from conda_cases import CASES, Case, filled

_SCRIPT = (
    "import sys\nif __name__ == '__main__':\n    from conda.cli import main\n    sys.exit(main())\n"
)
RC_FOLDERS = (Path("/etc/conda"), Path("/var/lib/conda"))


def make_root(folder: Path, python: str) -> Path:
    """A root prefix that borrows the packages of another Python."""
    found = subprocess.run(
        [python, "-c", "import sys, conda; print('\\n'.join(p for p in sys.path if p))"],
        capture_output=True,
        text=True,
        check=True,
    )
    root = folder / "root"
    subprocess.run([python, "-m", "venv", "--without-pip", root], check=True)
    (site,) = root.glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text(found.stdout)
    (root / "conda-meta").mkdir()
    (root / "conda-meta/history").touch()
    script = root / "bin/conda"
    script.write_text(f"#!{root}/bin/python\n{_SCRIPT}")
    script.chmod(0o755)
    return root


def answer(case: Case, python: str) -> list[str] | str | None:
    """What conda says, in the words of the table.

    ``None`` where it stops; its complaint where it says something odd.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        root = make_root(folder, python)
        words = {"{root}": str(root), "{cwd}": f"{folder}/home/cwd", "{home}": f"{folder}/home"}
        case.lay_out(words)
        environ = {name: filled(value, words) for name, value in case.environ.items()}
        environ = {
            "HOME": words["{home}"],
            "PATH": "/usr/bin:/bin",
            "CONDA_SOLVER": "classic",
            **environ,
        }
        done = subprocess.run(
            [root / "bin/python", "-m", "conda", "config", "--show", "pkgs_dirs", "--json"],
            env=environ,
            cwd=words["{cwd}"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            return None
        try:
            return [emptied(path, words) for path in json.loads(done.stdout)["pkgs_dirs"]]
        except (ValueError, KeyError, TypeError):
            return done.stdout + done.stderr


def emptied(text: str, words: dict[str, str]) -> str:
    """A text with words for the paths."""
    for word, path in words.items():
        text = text.replace(path, word)
    return text


def main() -> int:
    """Print a line a case, marked where conda says something else than the table."""
    if any(folder.is_dir() for folder in RC_FOLDERS):
        print(
            "This machine has a condarc for everybody: the answers would not be those of the files in the table."
        )
        return 2
    python, *chosen = sys.argv[1:]
    asked = {
        name: case
        for name, case in CASES.items()
        if not chosen or any(word in name for word in chosen)
    }
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        answers = list(pool.map(lambda case: answer(case, python), asked.values()))
    wrong = 0
    for (name, case), said in zip(asked.items(), answers, strict=True):
        differs = said != case.expected
        wrong += differs
        print(
            f"{'!' if differs else ' '} {name}: {json.dumps(said)}{f'  table: {json.dumps(case.expected)}' if differs else ''}"
        )
    print(f"{len(asked)} cases, {wrong} differ")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
