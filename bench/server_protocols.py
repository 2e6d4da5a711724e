"""What uvicorn's protocol class does with a proxy's traffic, beside our own.

And what importing each costs.

    python bench/server_protocols.py     (needs uvicorn; nothing else here does)

Times are processor time of the import in a fresh process, least of nine, once everything is loaded
that is there in any case: asyncio, ssl, httptools, uvloop, and for ours the authority and the
application's types.
"""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(HERE / "src"), str(HERE / "tests")]
LOADED = "import asyncio, ssl, httptools, uvloop, time; b = time.process_time(); "


OURS_LOADED = (
    "import entrepot.server.authority, entrepot.serving.response; b = time.process_time(); "
)


def cost(code: str, loaded: str = "") -> float:
    took = []
    for _ in range(9):
        environ = {**os.environ, "PYTHONPATH": str(HERE / "src")}
        done = subprocess.run(
            [sys.executable, "-c", f"{LOADED}{loaded}{code}; print(time.process_time() - b)"],
            env=environ,
            capture_output=True,
            text=True,
            check=True,
        )
        took.append(float(done.stdout) * 1000)
    return min(took)


async def app(scope, receive, send):
    """Answers with what it was told of the request."""
    if scope["type"] != "http":
        return
    told = f"{scope['method']} {scope['path']} {scope['raw_path']!r} {[n.decode() for n, _ in scope['headers']]}"
    if scope["path"] == "/cut":
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]}
        )
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("the upstream broke")
    await send(
        {
            "type": "http.response.start",
            "status": 504,
            "headers": [(b"X-Told", told.encode())],
            "reason": b"offline",
        }
    )
    await send({"type": "http.response.body", "body": b""})


async def ask(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(-1), 3)
    except ConnectionResetError:
        return b"RESET"
    except TimeoutError:
        return b"NOTHING"
    finally:
        writer.close()


REQUESTS = {
    "absolute target": b"GET http://index.test:8080/a HTTP/1.1\r\nHost: other.test\r\nX-Key: v\r\nConnection: close\r\n\r\n",
    "CONNECT": b"CONNECT index.test:443 HTTP/1.1\r\n\r\n",
    "cut body, 1.0": b"GET /cut HTTP/1.0\r\n\r\n",
    "cut body, 1.1": b"GET /cut HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "unknown Upgrade": b"GET /u HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\nraw bytes",
}


async def main() -> None:
    import uvicorn
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    from uvicorn.server import ServerState

    config = uvicorn.Config(app, log_level="critical", lifespan="off")
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: HttpToolsProtocol(config, state, {}), "127.0.0.1", 0
    )
    port = server.sockets[0].getsockname()[1]
    print(f"uvicorn {uvicorn.__version__}")
    for name, data in REQUESTS.items():
        print(f"  {name:<16} {await ask(port, data)!r}")
    server.close()


if __name__ == "__main__":
    uvicorn, ours = (
        "import uvicorn.protocols.http.httptools_impl, uvicorn.server",
        "import entrepot.server.http",
    )
    print(f"{cost(uvicorn):6.0f} ms of processor time: {uvicorn}")
    print(f"{cost(ours, OURS_LOADED):6.0f} ms of processor time: {ours}")
    asyncio.run(main())
