"""A cache of pip in use by four installing pips, while `clean`, `remove` and `verify --repair` go over it a hundred times and more.

    python bench/pip_in_use.py [RUNS] [PIP ...]

Says for each pip how many runs and installs there were, how many installs failed, and how often
something was freed or had to stay. Exit status 1 when an install failed.
"""

import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(HERE / "src"), str(HERE / "tests")]

from pip_verbs import in_use, made


def main():
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    failed = 0
    print(
        "| pip | runs | installs meanwhile | failed | runs that freed something | runs that left something in use |"
    )
    for version in sys.argv[2:] or ["23.2.1", "26.3"]:
        with tempfile.TemporaryDirectory() as folder:
            lab = made(Path(folder), version)
            try:
                ended = in_use(lab, runs, pause_s=0.3)
            finally:
                lab.origin.close()
        failed += len(ended.failed)
        freed = sum(
            "Freed 0 B" not in line for line in ended.said.splitlines() if line.startswith("Freed")
        )
        stayed = ended.statuses.count(3)
        row = (version, len(ended.statuses), ended.installs, len(ended.failed), freed, stayed)
        print("|", " | ".join(map(str, row)), "|", flush=True)
        for said in ended.failed:
            print(said, file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
