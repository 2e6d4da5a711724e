"""Real clients behind ``entrepot run``, with nothing configured.

Each file is fetched once, over http and over https.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

import pytest

import clients
from entrepot.testing import profiles
from entrepot.testing.origin import Origin
from running import Desk

PIPS = ("20.3.4", "23.2.1", "24.3.1", "25.3", "26.3")
PROJECT = (
    '[project]\nname = "mine"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["demo"]\n'
)
POETRY = '[tool.poetry]\npackage-mode = false\n[tool.poetry.dependencies]\npython = ">=3.11"\ndemo = "*"\n'
TOX = "[tox]\nskipsdist = true\n[testenv]\nskip_install = true\ndeps = demo\ncommands = demo\nsetenv =\n    PIP_INDEX_URL = <index>\n"
NOX = """import nox
nox.options.default_venv_backend = "venv"
INDEX = "<index>"
@nox.session
def tests(session):
    session.install("--index-url", INDEX, "--trusted-host", "index.test", "demo")
"""
BACKEND = """import demo
def build_wheel(where, *_):
    open(where + "/mine-1-py3-none-any.whl", "wb").close()
    return "mine-1-py3-none-any.whl"
"""
REQUESTS = "import requests\nfor url in ['<index>demo/', '<wheel>']:\n    requests.get(url).raise_for_status()\n"
URLLIB = "from urllib.request import urlopen\nfor url in ['<index>demo/', '<wheel>']:\n    urlopen(url).read()\n"
TOOL_UV = '[[tool.uv.index]]\nurl = "<index>"\ndefault = true\n'

CLIENTS: dict[str, tuple[str, dict[str, str]]] = {
    **{
        f"pip {v}": (f"<pip {v}> download -q -d out -i <index> --trusted-host index.test demo", {})
        for v in PIPS
    },
    "uv pip install": ("<uv> pip install -q --target out --default-index <index> demo", {}),
    "uv pip sync": ("<uv> pip sync -q --target out in.txt", {"in.txt": "-i <index>\ndemo==1.0\n"}),
    "uv sync": ("<uv> sync -q", {"pyproject.toml": PROJECT + TOOL_UV}),
    "uv lock": ("<uv> lock -q", {"pyproject.toml": PROJECT + TOOL_UV}),
    "uv tool run": ("<uv> tool run -q --default-index <index> demo", {}),
    "uv build": (
        "<uv> build -q --wheel --default-index <index> src",
        {
            "src/pyproject.toml": '[build-system]\nrequires = ["demo"]\nbuild-backend = "backend"\nbackend-path = ["."]\n'
            '[project]\nname = "mine"\nversion = "1"\n',
            "src/backend.py": BACKEND,
        },
    ),
    "poetry": (
        "<poetry> install -q --no-root",
        {
            "pyproject.toml": POETRY
            + '[[tool.poetry.source]]\nname = "own"\nurl = "<index>"\npriority = "primary"\n'
        },
    ),
    "pdm": (
        "<pdm> install -q --no-self",
        {
            "pyproject.toml": PROJECT
            + '[[tool.pdm.source]]\nname = "pypi"\nurl = "<index>"\n<trusted>'
        },
    ),
    "pipx": ("<pipx> install -q --backend uv --index-url <index> demo", {}),
    "pip in tox": ("<tox> -q -e py", {"tox.ini": TOX}),
    "pip in nox": ("<nox>", {"noxfile.py": NOX}),
    "pip in a Makefile": (
        "<make> -s",
        {
            "Makefile": "INDEX ?= <index>\nall:\n\t<pip 26.3> download -q -d out -i $(INDEX) --trusted-host index.test demo\n"
        },
    ),
    "curl": ("curl -sSf <index>demo/ -o page <wheel> -o wheel", {}),
    "requests": ("<requests> get.py", {"get.py": REQUESTS}),
    "urllib": ("<python> get.py", {"get.py": URLLIB}),
}
NO_FILES = ("uv lock",)
"""Clients that fetch pages and metadata alone."""

SLOW = ("pip in nox", "pip in tox")
"""They make environments for many seconds; what runs below them is pip, which is tried over http by
itself."""
CASES = [
    (scheme, name)
    for name in CLIENTS
    for scheme in ("http", "https")
    if scheme == "https" or name not in SLOW
]


def filled(text: str, origin: Origin) -> str:
    """The text with its commands and URLs."""
    for version in PIPS:
        if f"<pip {version}>" in text:
            text = text.replace(f"<pip {version}>", shlex.join(clients.pip(version)))
    for name in ("uv", "poetry", "pdm", "pipx", "tox", "nox", "make", "requests"):
        if f"<{name}>" in text:
            text = text.replace(f"<{name}>", shlex.join(getattr(clients, name)()))
    # pdm takes no index over plain http unless it is told to
    text = text.replace("<trusted>", "" if origin.tls else "verify_ssl = false\n")
    text = text.replace("<python>", sys.executable).replace("<index>", origin.index_url)
    return text.replace("<wheel>", origin.url(origin.files("demo")[0]))


@pytest.fixture
def origin(request):
    """An index and its files under made-up names."""
    tls = request.param == "https"
    with Origin(
        host="127.0.0.2",
        files_host="127.0.0.3",
        tls=tls,
        name="index.test",
        files_name="files.test",
    ) as running:
        running.add_project("demo", script="demo")
        yield running


def forget(desk: Desk) -> None:
    """Take away all that clients keep, and what they made.

    The store and the project's own files stay.
    """
    for place in (*desk.home.glob(".*"), *desk.project.glob("*"), *desk.project.glob(".*")):
        if place.name == ".cache":
            for cache in place.iterdir():
                if cache != desk.store:
                    shutil.rmtree(cache)
        elif place.is_dir() and place.name != "src":
            shutil.rmtree(place)
        elif place.suffix == ".lock":
            place.unlink()


@pytest.mark.slow
@pytest.mark.parametrize(("origin", "client"), CASES, indirect=["origin"])
def test_a_client_fetches_once_what_it_needs_twice(origin, tmp_path, client):
    command, files = CLIENTS[client]
    words = shlex.split(filled(command, origin))
    desk = Desk.under(
        tmp_path / "desk",
        origin,
        PATH=f"{Path(clients.uv()[0]).parent}:/usr/bin:/bin",
        PYTHONDONTWRITEBYTECODE="1",
    )
    if not origin.tls:
        desk.environ["PIP_TRUSTED_HOST"] = "index.test files.test"
    origin.profile = profiles.bare  # no caching fields at all: a file is known by its digest alone
    for turn in ("cold", "warm"):
        desk.write({name: filled(text, origin) for name, text in files.items()})
        ran = desk.run(*words)
        assert ran.status == 0, ran.said
        assert ran.report["uncached_hosts"] == {}, ran.said
        assert ran.report["warnings"] == [], ran.said
        wanted = "/demo/$" if client in NO_FILES else "whl$"
        assert any(url.endswith(wanted.rstrip("$").lstrip("/")) for url in ran.urls()), ran.said
        assert origin.count("whl$") == (0 if client in NO_FILES else 1), (turn, ran.said)
        assert origin.count("metadata$") <= 1, (turn, ran.said)
        forget(desk)
