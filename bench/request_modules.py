"""Which modules of entrepot a request crosses, from the client's socket to the stored bytes.

    python bench/request_modules.py

A proxy, a store on disk and an index, all real and in this process. A client asks for a project's
page, then for its wheel twice (inside TLS, as pip does), the first time cold. Every module in which
a function is called while a wheel is asked for is counted, in all threads; sockets of the index and
of the client are not entrepot's.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import re
import ssl
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from urllib.parse import urljoin, urlsplit

SOURCE = Path(__file__).parents[1] / "src"
sys.path.insert(0, str(SOURCE))

from entrepot.ports.clock import SystemClock
from entrepot.run.plan import Plan
from entrepot.server.certificates import Authority
from entrepot.server.proxy import ConnectPolicy, ProxyConnection, ProxyServer
from entrepot.serving.known_files import KnownFiles
from entrepot.serving.lookup import Entries
from entrepot.serving.prefetch import PageHistory
from entrepot.serving.run_stats import RunStats
from entrepot.serving.policy import Rules
from entrepot.serving.service import Service
from entrepot.store.catalogue import open_catalogue
from entrepot.store.directory import DirectoryStore
from entrepot.testing.origin import Origin
from entrepot.upstream.client import HttpUpstream, UpstreamSettings

USER, TOKEN = "entrepot", "token"
ROOT = f"{SOURCE / 'entrepot'}/"


class Trace:
    """The modules in which something was called while it was on."""

    def __init__(self) -> None:
        self.seen: dict[str, None] | None = None

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        name = frame.f_code.co_filename
        if self.seen is not None and event == "call" and name.startswith(ROOT):
            module = name.removeprefix(ROOT)
            if not module.startswith("testing/") and frame.f_code.co_name != "<module>":
                self.seen.setdefault(module)

    def start(self) -> None:
        """Watch this thread, and all that begin from here on."""
        threading.setprofile(self)
        sys.setprofile(self)


def ask(port: int, url: str, pem: str) -> bytes:
    """What a client of the proxy gets."""
    parts = urlsplit(url)
    context = ssl.create_default_context(cadata=pem)
    client = http.client.HTTPSConnection("127.0.0.1", port, context=context)
    basic = base64.b64encode(f"{USER}:{TOKEN}".encode()).decode()
    client.set_tunnel(parts.hostname, parts.port, {"Proxy-Authorization": f"Basic {basic}"})
    client.request("GET", parts.path, headers={"User-Agent": "pip/26.3"})
    body = client.getresponse().read()
    client.close()
    return body


async def main() -> None:
    """Print the modules of a cold and of a warm request."""
    trace = Trace()
    with Origin(tls=True) as origin, tempfile.TemporaryDirectory() as folder:
        origin.synth(1)
        store = DirectoryStore(Path(folder))
        catalogue = open_catalogue(Path(folder))
        clock, stats = SystemClock(), RunStats()
        known_files = KnownFiles(catalogue)
        upstream = HttpUpstream(UpstreamSettings(ca_pem=origin.authority.pem))
        service = Service(
            entries=Entries(store, catalogue, clock),
            upstream=upstream,
            known_files=known_files,
            clock=clock,
            rules=Rules(),
            stats=stats,
            history=PageHistory(catalogue),
        )
        known_files.hosts.add(f"{origin.host}:{origin.port}")
        plan = Plan(frozenset(), frozenset(), frozenset(), (), {}, (), (), ())
        policy = ConnectPolicy(plan, known_files, None, stats, offline=False)
        authority = Authority()
        proxy = ProxyServer(USER, TOKEN, authority, service.handle, policy)
        trace.start()
        server = await asyncio.get_running_loop().create_server(
            lambda: ProxyConnection(proxy), "127.0.0.1", 0
        )
        port = server.sockets[0].getsockname()[1]
        page = f"{origin.index_url}synth-0000/"
        body = await asyncio.to_thread(ask, port, page, authority.pem)
        url = re.search(rb'href="([^"#]+whl)', body)[1].decode()
        for name in ("cold", "warm"):
            trace.seen = {}
            assert await asyncio.to_thread(ask, port, urljoin(page, url), authority.pem)
            await asyncio.sleep(0.5)  # what is done once the client has its answer
            seen, trace.seen = trace.seen, None
            print(f"{name}: {len(seen)} modules")
            print("\n".join(f"  {module}" for module in sorted(seen)))
        server.close()
        await proxy.close()
        await service.aclose()
        await upstream.aclose()
        catalogue.close()


if __name__ == "__main__":
    asyncio.run(main())
