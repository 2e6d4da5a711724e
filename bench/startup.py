"""How long entrepot takes to start, beside `uv cache dir` and `pip cache dir`, in one run.

    python bench/startup.py [RUNS]

Prints the least and the median wall time and the least processor time of each command, in
milliseconds. The commands take turns, so that whatever else the machine does hits all of them. Byte
code is cached, as it is once installed. The store is one of its own with 1 000 files in it. Tools
that are not installed are left out.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
SCRIPT = "import sys; from entrepot.cli.main import main; sys.exit(main())"


def fill(root: Path, count: int) -> None:
    sys.path.insert(0, str(HERE / "src"))
    from entrepot.digests import sha256_of
    from entrepot.stored import Head, body_key, cache_key
    from entrepot.httpcache.messages import Headers, ResponseHead, StoredResponse
    from entrepot.store.catalogue import open_catalogue
    from entrepot.store.directory import DirectoryStore

    def put() -> None:
        store, catalogue = DirectoryStore(root), open_catalogue(root)
        now = time.time()
        for number in range(count):
            data = b"wheel %d" % number
            body = sha256_of(data)
            url = f"https://files.test/pkg{number}-1.0-py3-none-any.whl"
            stored = StoredResponse(ResponseHead(200, Headers()), (), now, now, len(data))
            head = Head(
                url,
                "GET",
                stored,
                body,
                proven=(body,),
                project=f"pkg{number}",
                version="1.0",
                filename=url[19:],
                kind="wheel",
            )
            meta = store.put(body_key(body), data)
            key = cache_key(url) + "/0"
            store.put(key, head.to_bytes())
            catalogue.record(key, head, used=now, disk=meta.disk)
        catalogue.rebuild(store)
        catalogue.close()
        store.close()

    put()


def once(command: list[str], environ: dict[str, str]) -> tuple[float, float]:
    """Wall and processor seconds of one run."""
    start = time.perf_counter()
    child = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environ
    )
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return time.perf_counter() - start, used.ru_utime + used.ru_stime


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    with tempfile.TemporaryDirectory() as base:
        environ = {
            **os.environ,
            "HOME": base,
            "PYTHONPATH": str(HERE / "src"),
            "PYTHONPYCACHEPREFIX": f"{base}/pyc",
            "ENTREPOT_STORE": f"{base}/store",
        }
        environ.pop("PYTHONDONTWRITEBYTECODE", None)
        fill(Path(base, "store"), 1000)
        python = sys.executable
        commands = {"python -c pass": [python, "-c", "pass"]}
        for name in ("--help", "where", "status", "list"):
            commands[f"entrepot {name}"] = [python, "-c", SCRIPT, name]
        beside = Path(python).parent
        for tool in ("uv", "pip"):
            path = shutil.which(tool, path=f"{beside}{os.pathsep}{os.environ.get('PATH', '')}")
            if path:
                commands[f"{tool} cache dir"] = [path, "cache", "dir"]
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for turn in range(runs + 1):
            for name, command in commands.items():
                took = once(command, environ)
                if turn:  # the first turn writes the byte code
                    times[name].append(took)
        print(
            f"{'':<18} {'least':>8} {'median':>8} {'cpu':>8}   ms, {runs} runs each, taking turns"
        )
        for name, took in times.items():
            wall = [1000 * w for w, _ in took]
            print(
                f"{name:<18} {min(wall):8.0f} {statistics.median(wall):8.0f} {min(1000 * c for _, c in took):8.0f}"
            )


if __name__ == "__main__":
    main()
