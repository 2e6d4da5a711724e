"""How long the first list of a conda cache takes.

1,000 packages of 300 files, hard-linked into one environment.

    python bench/conda_scan.py [PACKAGES] [FILES]

Makes the cache below a temporary directory, lists it three times and removes it. The goal is under
5 s for 300,000 files.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

from entrepot.ports.tool import Surroundings
from entrepot.tools.conda.tool import conda as tool

packages, files = (int(word) for word in (*sys.argv[1:], "1000", "300")[:2])


def make(root: Path) -> None:
    (root / "bin").mkdir(parents=True)
    (root / "bin/conda").touch()
    (root / "conda-meta").mkdir()
    env = root / "envs/work"
    (env / "conda-meta").mkdir(parents=True)
    for number in range(packages):
        name = f"demo{number:04d}-1.0-h0_0"
        info = root / "pkgs" / name / "info"
        info.mkdir(parents=True)
        record = {
            "name": f"demo{number:04d}",
            "version": "1.0",
            "build": "h0_0",
            "subdir": "noarch",
            "fn": f"{name}.conda",
        }
        record |= {
            "channel": "https://channel.test/c/noarch",
            "url": f"https://channel.test/c/noarch/{name}.conda",
        }
        (info / "index.json").write_text(json.dumps(record))
        (info / "repodata_record.json").write_text(json.dumps(record))
        (env / f"conda-meta/{name}.json").write_text("{}")
        for folder in range(max(1, files // 30)):
            inside = f"lib/demo{number:04d}/{folder}"
            (info.parent / inside).mkdir(parents=True)
            (env / inside).mkdir(parents=True)
            for each in range(min(30, files)):
                (info.parent / inside / f"{each}.py").touch()
                os.link(info.parent / inside / f"{each}.py", env / inside / f"{each}.py")
    (root / "pkgs/urls.txt").touch()


with tempfile.TemporaryDirectory() as place:
    home = Path(place)
    make(home / "miniconda3")
    around = Surroundings({"PATH": ""}, home, home)
    conda = tool.conda()
    for _ in range(int(os.environ.get("TIMES", "3"))):
        start, spent = time.perf_counter(), time.process_time()
        first = conda.places(around)[0]
        found = list(conda.scan(first, around))
        used = sum(bool(entry.used_by) for entry in found)
        total = sum(entry.files for entry in found)
        print(
            f"{len(found)} entries, {total} files, {used} in use: {time.perf_counter() - start:.2f} s, {time.process_time() - spent:.2f} s of one core"
        )
