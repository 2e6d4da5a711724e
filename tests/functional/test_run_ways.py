"""Ways in which a client is told its index.

In each every request goes through the cache, and no host goes past it.
"""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import clients
from entrepot.testing.distributions import Content, zip_stored
from entrepot.testing.origin import Origin
from entrepot.testing.pages import File
from running import Desk, Ran

USER, PASSWORD = "someone", "pa55-word"
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.fixture(scope="module")
def origins():
    """An index with its files elsewhere, one more of the same kind, and one that wants credentials."""
    with (
        Origin(tls=True, name="index.test", files_name="files.test") as index,
        Origin(
            host="127.0.0.2",
            files_host="127.0.0.3",
            tls=True,
            name="more.test",
            files_name="more-files.test",
        ) as more,
        Origin(host="127.0.0.4", tls=True, name="closed.test") as closed,
    ):
        index.add_project("demo", script="demo")
        index.add_project("built", wheel=False, sdist=True, build_requires=["demo"])
        _add_pip(index)
        more.add_project("extra")
        closed.add_project("demo")
        closed.protect(USER, PASSWORD)
        index.add("/requirements.txt", b"demo\n", "page", "text/plain")
        yield {
            "index": index,
            "more": more,
            "closed": closed,
            "links": index.add_link_page("/links.html", ["demo"]),
        }


def _add_pip(index: Origin) -> None:
    """A real pip, packed again from where it is installed.

    Pipx asks its index for one that is new enough.
    """
    version = "26.3"
    name, info = f"pip-{version}-py3-none-any.whl", f"pip-{version}.dist-info"
    try:
        (site,) = clients.pip_python(version).parent.parent.glob("lib/python3*/site-packages")
    except pytest.skip.Exception:
        return
    kept = [
        path
        for folder in ("pip", info)
        for path in (site / folder).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    ]
    members = {
        str(path.relative_to(site)): Content([path.read_bytes()])
        for path in kept
        if path.name != "RECORD"
    }
    record = "".join(f"{path},,\n" for path in (*members, f"{info}/RECORD"))
    members[f"{info}/RECORD"] = Content([record.encode()])
    index.add_file("pip", File(name, version, zip_stored(members)))


@dataclass(frozen=True)
class Way:
    """How a client is told.

    ``<index>`` and its like are replaced by URLs, ``<pip>`` and its like by commands.
    """

    command: str
    files: dict[str, str] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)
    wanted: str = "files.test/.*demo-1.0-py3-none-any.whl"
    asks: str = "https://index.test/simple/demo/"
    """A page that must be among the requests; empty when the way needs none."""


PIP = "<pip> download -q -d out "
UV = "<uv> pip install -q --target out "
PROJECT = (
    '[project]\nname = "mine"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["demo"]\n'
)
POETRY = '[tool.poetry]\npackage-mode = false\n[tool.poetry.dependencies]\npython = ">=3.11"\ndemo = "*"\n'
SOURCE = '[[tool.poetry.source]]\nname = "own"\nurl = "<index>"\npriority = "primary"\n'
NOX = 'import nox\nnox.options.default_venv_backend = "venv"\n@nox.session\ndef lint(s):\n    s.install("-i", "<index>", "demo")\n'
TOX = "[tox]\nskipsdist = true\n[testenv]\nskip_install = true\ndeps = demo\ncommands = demo\nsetenv = PIP_INDEX_URL=<index>\n"
EXTRA = {
    "wanted": "more-files.test/.*extra-1.0-py3-none-any.whl",
    "asks": "https://more.test/simple/extra/",
}
CLOSED = {
    "wanted": "closed.test/.*demo-1.0-py3-none-any.whl",
    "asks": "https://closed.test/simple/demo/",
}
DIRECT = {"asks": ""}
LINKS = {"asks": "https://index.test/links.html"}
NETRC = {"~/.netrc": f"machine closed.test login {USER} password {PASSWORD}\n"}

UV_LOCK = """version = 1
revision = 3
requires-python = ">=3.11"

[[package]]
name = "demo"
version = "1.0"
source = { registry = "<index>" }
wheels = [
    { url = "<wheel>", hash = "sha256:<sha256>" },
]

[[package]]
name = "mine"
version = "1"
source = { virtual = "." }
dependencies = [
    { name = "demo" },
]

[package.metadata]
requires-dist = [{ name = "demo" }]
"""
PYLOCK = """lock-version = "1.0"
created-by = "hand"

[[packages]]
name = "demo"
version = "1.0"

[[packages.wheels]]
url = "<wheel>"
hashes = { sha256 = "<sha256>" }
"""

WAYS = {
    "pip -i": Way(PIP + "-i <index> demo"),
    "pip --index-url=": Way(PIP + "--index-url=<index> demo"),
    "pip --extra-index-url": Way(PIP + "-i <index> --extra-index-url <more> extra", **EXTRA),
    "pip -f page": Way(PIP + "--no-index -f <links> demo", **LINKS),
    "pip URL": Way(PIP + "<wheel>", **DIRECT),
    "pip name @ URL": Way(PIP + "'demo @ <wheel>'", **DIRECT),
    "pip -r with --index-url inside": Way(
        PIP + "-r in.txt", {"in.txt": "--index-url <index>\ndemo\n"}
    ),
    "pip -r nested": Way(
        PIP + "-r in.txt",
        {
            "in.txt": "-r deep/base.txt\n",
            "deep/base.txt": "-r base/own.txt\n",
            "deep/base/own.txt": "-i <index>\ndemo\n",
        },
    ),
    "pip -r with --extra-index-url inside": Way(
        PIP + "-r in.txt", {"in.txt": "-i <index>\n--extra-index-url=<more>\nextra\n"}, **EXTRA
    ),
    "pip -r with --find-links inside": Way(
        PIP + "-r in.txt", {"in.txt": "--no-index\n--find-links <links>\ndemo\n"}, **LINKS
    ),
    "pip -r with a URL inside": Way(
        PIP + "-r in.txt", {"in.txt": "demo @ <wheel>  # pinned\n"}, **DIRECT
    ),
    "pip -r with variables inside": Way(
        PIP + "-r in.txt",
        {"in.txt": "-i https://${ME}:${WORD}@closed.test/simple/\ndemo\n"},
        {"ME": USER, "WORD": PASSWORD},
        **CLOSED,
    ),
    "pip -r URL": Way(PIP + "-i <index> -r https://index.test/requirements.txt"),
    "pip -c with --index-url inside": Way(
        PIP + "-c limits.txt demo", {"limits.txt": "--index-url <index>\ndemo<2\n"}
    ),
    "PIP_INDEX_URL": Way(PIP + "demo", environ={"PIP_INDEX_URL": "<index>"}),
    "PIP_EXTRA_INDEX_URL": Way(
        PIP + "extra",
        environ={"PIP_INDEX_URL": "<index>", "PIP_EXTRA_INDEX_URL": "<more>"},
        **EXTRA,
    ),
    "PIP_FIND_LINKS": Way(PIP + "--no-index demo", environ={"PIP_FIND_LINKS": "<links>"}, **LINKS),
    "PIP_REQUIREMENT": Way(PIP, {"in.txt": "-i <index>\ndemo\n"}, {"PIP_REQUIREMENT": "in.txt"}),
    "PIP_CONFIG_FILE": Way(
        PIP + "demo",
        {"own.conf": "[global]\nindex-url = <index>\n"},
        {"PIP_CONFIG_FILE": "own.conf"},
    ),
    "env PIP_INDEX_URL": Way("env PIP_INDEX_URL=<index> " + PIP + "demo"),
    "pip.conf of the user": Way(
        PIP + "demo", {"~/.config/pip/pip.conf": "[global]\nindex-url = <index>\n"}
    ),
    "pip.conf, legacy place": Way(
        PIP + "demo", {"~/.pip/pip.conf": "[global]\nindex_url: <index>\n"}
    ),
    "pip.conf of a command": Way(
        PIP + "demo", {"~/.config/pip/pip.conf": "[download]\nindex-url = <index>\n"}
    ),
    "pip.conf extra-index-url": Way(
        PIP + "extra",
        {
            "~/.config/pip/pip.conf": "[global]\nindex-url = <index>\nextra-index-url =\n    <more>\n"
        },
        **EXTRA,
    ),
    "pip netrc": Way(PIP + "-i <closed> demo", NETRC, **CLOSED),
    "pip credentials in the URL": Way(
        PIP + f"-i https://{USER}:{PASSWORD}@closed.test/simple/ demo", **CLOSED
    ),
    "pip build requirements": Way(
        "<pip> wheel -q -w out built",
        environ={"PIP_INDEX_URL": "<index>"},
        wanted="files.test/.*built-1.0.tar.gz",
    ),
    "pip below sh": Way("sh -c '" + PIP + "-i <index> demo'"),
    "pip in a script": Way(
        "sh get.sh", {"get.sh": "set -e\n" + PIP + "--index-url <index> demo\n"}
    ),
    "make": Way(
        "<make> -s wheels",
        {"Makefile": "INDEX = <index>\nwheels:\n\t" + PIP + "-i $(INDEX) demo\n"},
    ),
    "make INDEX=": Way(
        "<make> -s wheels INDEX=<index>", {"Makefile": "wheels:\n\t" + PIP + "-i $(INDEX) demo\n"}
    ),
    "make -C": Way(
        "<make> -s -C sub",
        {"sub/Makefile": "all:\n\t" + PIP + "-r in.txt\n", "sub/in.txt": "-i <index>\ndemo\n"},
    ),
    "tox.ini": Way("<tox> -q -e py", {"tox.ini": TOX}),
    "noxfile.py": Way("<nox>", {"noxfile.py": NOX}),
    "pipx --index-url": Way("<pipx> install -q --backend pip --index-url <index> demo"),
    "pipx install with uv": Way(
        "<pipx> install -q --backend uv --index-url <index> demo",
        environ={"PATH": "<bin>:/usr/bin:/bin"},
    ),
    "pipx --pip-args": Way(
        "<pipx> run --backend uv --pip-args='-i <index>' demo",
        environ={"PATH": "<bin>:/usr/bin:/bin"},
    ),
    "uv --index-url": Way(UV + "--index-url <index> demo"),
    "uv --default-index": Way(UV + "--default-index <index> demo"),
    "uv --index name=": Way(UV + "--default-index <index> --index own=<more> extra", **EXTRA),
    "uv -f": Way(UV + "--no-index -f <links> demo", **LINKS),
    "uv URL": Way(UV + "'demo @ <wheel>'", **DIRECT),
    "uv -r with --index-url inside": Way(
        UV + "-r in.txt", {"in.txt": "--index-url <index>\ndemo\n"}
    ),
    "UV_INDEX_URL": Way(UV + "demo", environ={"UV_INDEX_URL": "<index>"}),
    "UV_DEFAULT_INDEX": Way(UV + "demo", environ={"UV_DEFAULT_INDEX": "<index>"}),
    "UV_INDEX": Way(
        UV + "extra", environ={"UV_DEFAULT_INDEX": "<index>", "UV_INDEX": "own=<more>"}, **EXTRA
    ),
    "UV_FIND_LINKS": Way(UV + "--no-index demo", environ={"UV_FIND_LINKS": "<links>"}, **LINKS),
    "uv netrc": Way(UV + "--index-url <closed> demo", NETRC, **CLOSED),
    "UV_INDEX_..._PASSWORD": Way(
        UV + "--default-index own=<closed> demo",
        environ={"UV_INDEX_OWN_USERNAME": USER, "UV_INDEX_OWN_PASSWORD": PASSWORD},
        **CLOSED,
    ),
    "uv.toml of the project": Way(
        UV + "demo", {"uv.toml": '[[index]]\nurl = "<index>"\ndefault = true\n'}
    ),
    "uv.toml of the user": Way(UV + "demo", {"~/.config/uv/uv.toml": 'index-url = "<index>"\n'}),
    "uv.toml [pip]": Way(UV + "demo", {"uv.toml": '[pip]\nindex-url = "<index>"\n'}),
    "tool.uv.index": Way(
        "<uv> sync -q",
        {"pyproject.toml": PROJECT + '[[tool.uv.index]]\nurl = "<index>"\ndefault = true\n'},
    ),
    "tool.uv.index of a parent": Way(
        "<uv> sync -q --project sub/mine",
        {
            "sub/pyproject.toml": '[tool.uv.workspace]\nmembers = ["mine"]\n[[tool.uv.index]]\nurl = "<index>"\ndefault = true\n',
            "sub/mine/pyproject.toml": PROJECT,
        },
    ),
    "tool.uv.sources index": Way(
        "<uv> sync -q",
        {
            "pyproject.toml": PROJECT
            + '[tool.uv.sources]\ndemo = { index = "own" }\n[[tool.uv.index]]\nname = "own"\nurl = "<index>"\nexplicit = true\n'
        },
    ),
    "tool.uv.sources url": Way(
        "<uv> sync -q",
        {"pyproject.toml": PROJECT + '[tool.uv.sources]\ndemo = { url = "<wheel>" }\n'},
        **DIRECT,
    ),
    "PEP 723 script": Way(
        "<uv> run -q main.py",
        {
            "main.py": '# /// script\n# requires-python = ">=3.11"\n# dependencies = ["demo"]\n'
            '# [[tool.uv.index]]\n# url = "<index>"\n# default = true\n# ///\nimport demo\n'
        },
    ),
    "uv tool run": Way("<uv> tool run -q --default-index <index> demo"),
    "uv build": Way(
        "<uv> build -q --wheel --default-index <index> src",
        {
            "src/pyproject.toml": '[build-system]\nrequires = ["demo"]\nbuild-backend = "backend"\nbackend-path = ["."]\n'
            '[project]\nname = "mine"\nversion = "1"\n',
            "src/backend.py": "import demo\n\n\ndef build_wheel(where, *_):\n"
            "    open(where + '/mine-1-py3-none-any.whl', 'wb').close()\n    return 'mine-1-py3-none-any.whl'\n",
        },
    ),
    "poetry source": Way("<poetry> install -q --no-root", {"pyproject.toml": POETRY + SOURCE}),
    "poetry url": Way(
        "<poetry> install -q --no-root",
        {"pyproject.toml": POETRY.replace('"*"', '{ url = "<wheel>" }') + SOURCE},
        **DIRECT,
    ),
    "pdm source": Way(
        "<pdm> install -q --no-self",
        {"pyproject.toml": PROJECT + '[[tool.pdm.source]]\nname = "pypi"\nurl = "<index>"\n'},
    ),
    "pdm config": Way(
        "<pdm> install -q --no-self",
        {"pyproject.toml": PROJECT, "~/.config/pdm/config.toml": '[pypi]\nurl = "<index>"\n'},
    ),
    "PDM_PYPI_URL": Way(
        "<pdm> install -q --no-self", {"pyproject.toml": PROJECT}, {"PDM_PYPI_URL": "<index>"}
    ),
    "uv.lock": Way(
        "<uv> sync -q --frozen", {"pyproject.toml": PROJECT, "uv.lock": UV_LOCK}, **DIRECT
    ),
    "pylock.toml, uv": Way(
        "<uv> pip sync -q --target out pylock.toml", {"pylock.toml": PYLOCK}, **DIRECT
    ),
    "pylock.toml, pip": Way(PIP + "-r pylock.toml", {"pylock.toml": PYLOCK}, **DIRECT),
    "pip --requirements-from-script": Way(
        PIP + "--requirements-from-script main.py",
        {"main.py": '# /// script\n# dependencies = ["demo @ <wheel>"]\n# ///\n'},
        **DIRECT,
    ),
    "pip --group": Way(
        PIP + "--group dev",
        {"pyproject.toml": '[dependency-groups]\ndev = ["demo @ <wheel>"]\n'},
        **DIRECT,
    ),
    "curl URL": Way("curl -sSfO <wheel>", **DIRECT),
    "URL in a Python script": Way(
        "<python> get.py",
        {"get.py": "from urllib.request import urlopen\nlen(urlopen('<wheel>').read())\n"},
        **DIRECT,
    ),
    "--host": Way(
        '<python> -c \'from urllib.request import urlopen; urlopen("https:" + "<hidden>").read()\'',
        **DIRECT,
    ),
}


def at(origins, tmp_path, way: Way) -> tuple[Desk, list[str]]:
    """A desk where this way's files and variables stand, and the command in words."""
    index, more, closed = (origins[name] for name in ("index", "more", "closed"))
    for origin in (index, more, closed):
        origin.reset()
    desk = Desk.under(tmp_path / "desk", index, more, closed, PYTHONDONTWRITEBYTECODE="1")
    urls = {name: origins[name].index_url for name in ("index", "more", "closed")}
    urls |= {"links": origins["links"], "wheel": index.url(index.files("demo")[0])}
    urls["sha256"] = index.files("demo")[0].content.sha256
    urls["hidden"] = urls["wheel"].removeprefix("https:")
    programs = {"pip": lambda: clients.pip("26.3"), "python": lambda: [sys.executable]}

    def filled(text: str) -> str:
        if "<bin>" in text:
            text = text.replace("<bin>", str(Path(clients.uv()[0]).parent))
        for name, url in urls.items():
            text = text.replace(f"<{name}>", url)
        for name in ("pip", "uv", "pipx", "poetry", "pdm", "tox", "nox", "make", "python"):
            if f"<{name}>" in text:
                text = text.replace(
                    f"<{name}>", shlex.join(programs.get(name, getattr(clients, name))())
                )
        return text

    desk.write({name: filled(text) for name, text in way.files.items()})
    desk.environ |= {name: filled(text) for name, text in way.environ.items()}
    return desk, shlex.split(filled(way.command))


def seen(origins) -> set[str]:
    """What the origins were asked for, by path."""
    return {seen.path for name in ("index", "more", "closed") for seen in origins[name].log}


def paths(ran: Ran) -> set[str]:
    """What the report says was asked for, by path."""
    return {"/" + url.split("/", 3)[3] for url in ran.urls()}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_all_that_a_client_asks_for_goes_through_the_cache(origins, tmp_path, way):
    desk, command = at(origins, tmp_path, way)
    options = ["--host", "files.test"] if way is WAYS["--host"] else []
    ran = desk.run(*command, options=options)
    assert ran.status == 0, ran.said
    assert ran.report["uncached_hosts"] == {}, ran.said
    assert ran.report["warnings"] == [], ran.said
    assert any(re.search(way.wanted, url) for url in ran.urls("miss")), ran.said
    assert not way.asks or way.asks in ran.urls(), ran.said
    assert seen(origins) <= paths(ran), ran.said
    assert PASSWORD not in ran.said


def test_a_host_that_nobody_told_of_is_tunnelled_and_counted(origins, tmp_path):
    """What the test above would see if a way were not understood."""
    desk, command = at(origins, tmp_path, WAYS["--host"])
    ran = desk.run(*command)
    assert ran.status == 0, ran.said
    assert list(ran.report["uncached_hosts"]) == ["files.test"]
    assert "--host files.test" in ran.said
    assert not ran.urls()
    assert not seen(origins) <= paths(ran)
