"""What the store and the catalogue cost.

`PYTHONPATH=src:tests python bench/stores.py [DIRECTORY]`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path


def timed(label, work, repeat=1, unit="ms"):
    best = min(_once(work) for _ in range(repeat))
    print(f"{label:58} {best * (1e3 if unit == 'ms' else 1e6):10.2f} {unit}")


def _once(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def imports():
    for module in ("entrepot.stored", "entrepot.store.catalogue", "entrepot.store.directory"):
        code = f"import time; t = time.perf_counter(); import {module}; print((time.perf_counter() - t) * 1e3)"
        best = min(float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(7))
        print(f"{'import ' + module:58} {best:10.2f} ms")


def main(place: Path):
    imports()
    from unit.storing import head_of
    from unit.test_store_catalogue import links

    from entrepot.store.catalogue import SqliteCatalogue, open_catalogue
    from entrepot.store.directory import DirectoryStore
    from entrepot.testing.store_suite import body

    timed("DirectoryStore(...), new", lambda: DirectoryStore(place / "s"))
    timed("DirectoryStore(...), there", lambda: DirectoryStore(place / "s", create=False), 20)
    store = DirectoryStore(place / "s")

    def many(count, work):
        start = time.perf_counter()
        for i in range(count):
            work(i)
        return (time.perf_counter() - start) / count * 1e6

    def opened(key):
        store.get(key).close()

    head = head_of("https://files.test/a.whl", b"x").to_bytes()
    print(
        f"{'put of a head':58} {many(500, lambda i: store.put(f'heads/ab/{i}/0', head)):10.1f} us"
    )
    print(
        f"{'put of a head, again':58} {many(500, lambda i: store.put(f'heads/ab/{i}/0', head)):10.1f} us"
    )
    print(
        f"{'put of a body of 100 KB, synced':58} {many(20, lambda i: store.put(body(b'%d' % i), b'x' * 100_000)):10.1f} us"
    )
    print(
        f"{'get and close of a body':58} {many(2000, lambda i: opened(body(b'%d' % (i % 20)))):10.1f} us"
    )

    def hold():
        for _ in range(1000):
            with store.hold(body(b"1")):
                pass

    timed("1,000 shared holds", hold, 3)

    def touch():
        for _ in range(1000):
            store.touch("heads/ab/1/0")

    timed("1,000 touches", touch, 3)
    timed("open_catalogue and needs_rebuild, new", lambda: open_catalogue(store.root).needs_rebuild)
    timed(
        "open_catalogue and needs_rebuild, there",
        lambda: open_catalogue(store.root).needs_rebuild,
        5,
    )
    catalogue = open_catalogue(store.root)
    page = links(3000)
    timed("learn 3,000 links, first", lambda: catalogue.learn(page))
    timed("learn 3,000 links, again", lambda: catalogue.learn(page), 5)
    urls = [each.url for each in page]
    timed("3,000 look-ups of links", lambda: [catalogue.link(u) for u in urls], 3)
    timed(
        "1,000 records",
        lambda: [
            catalogue.record(
                f"heads/ab/{i}/0", head_of(f"https://files.test/{i}", b"x"), used=1, disk=1
            )
            for i in range(1000)
        ],
    )
    big = SqliteCatalogue(place / "big.sqlite")
    heads = [
        (
            f"heads/{i % 256:02x}/{i:062x}/0",
            head_of(
                f"https://files.test/packages/{i:064x}/numpy-{i}.whl",
                b"%d" % i,
                project="numpy",
                version=str(i),
                kind="wheel",
            ),
            float(i),
            4096,
        )
        for i in range(100_000)
    ]
    timed(
        "record 100,000 heads in batches of 2,000",
        lambda: [big._record(heads[i : i + 2000]) for i in range(0, 100_000, 2000)],
    )
    timed("listing of 100,000", lambda: sum(1 for _ in big.listing()), 3)
    timed("totals of 100,000", big.totals, 3)
    timed("sizes of 100,000", big.sizes, 3)
    timed(
        "heads_of among 100,000, x1000", lambda: [big.heads_of(h[1].body) for h in heads[:1000]], 3
    )
    big.close()
    print(f"{'its file':58} {(place / 'big.sqlite').stat().st_size / 1e6:10.1f} MB")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as place:
            main(Path(place))
