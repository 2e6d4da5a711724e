"""Every way in which a real client is told its index, against the set-up of all clients together."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

import pytest

from setup_sandbox import Sandbox


@pytest.fixture
def sandbox(tmp_path):
    return Sandbox.under(tmp_path)


URL = "https://index.test/simple"
UV_INDEX = '[[index]]\nname = "own"\nurl = "https://index.test/simple"\n'
SCRIPT = f"""#!/usr/bin/env python
# /// script
# dependencies = ["six"]
# [[tool.uv.index]]
# url = "{URL}"
# ///
"""
PYPROJECT = '[project]\nname = "x"\nversion = "0"\n'

# id: (argv, environment, files)
TOLD: dict[str, tuple[str | tuple[str, ...], dict[str, str], dict[str, str]]] = {
    # pip: the command line
    "pip -i URL": (f"pip install -i {URL} six", {}, {}),
    "pip -iURL": (f"pip install -i{URL} six", {}, {}),
    "pip --index-url URL": (f"pip install --index-url {URL} six", {}, {}),
    "pip --index-url=URL": (f"pip install --index-url={URL} six", {}, {}),
    "pip --extra-index-url": (f"pip install --extra-index-url={URL} six", {}, {}),
    "pip abbreviated option": (f"pip install --extra-index {URL} six", {}, {}),
    "pip --find-links page": ("pip install --find-links https://index.test/links.html six", {}, {}),
    "pip -f page": ("pip install -f https://index.test/links.html six", {}, {}),
    "pip -f local page": (
        "pip install -f page.html six",
        {},
        {"page.html": '<a href="https://index.test/f/x-1.tar.gz">x</a>'},
    ),
    "pip credentials in URL": ("pip install -i https://me:secret@index.test/simple six", {}, {}),
    "python -m pip": (f"python3.12 -m pip install -i {URL} six", {}, {}),
    "pip of a path": (f"/opt/x/bin/pip3.11 install -i {URL} six", {}, {}),
    "pip below env": (f"env PIP_INDEX_URL={URL} pip install six", {}, {}),
    "pip below sh -c": (("sh", "-c", f"cd . && pip install -i '{URL}' six"), {}, {}),
    "variable inside sh -c": (("bash", "-lc", f"PIP_INDEX_URL={URL} pip install six"), {}, {}),
    "pip below time, nice and sudo": (f"time nice -n 5 sudo -E pip install -i {URL} six", {}, {}),
    "pip wheel by URL": ("pip install https://index.test/files/six-1.0-py3-none-any.whl", {}, {}),
    "pip name @ URL": (("pip", "install", "six @ https://index.test/six-1.0.tar.gz"), {}, {}),
    # pip: requirement files
    "-r file with --index-url": (
        "pip install -r r.txt",
        {},
        {"r.txt": f"--index-url {URL}\nsix\n"},
    ),
    "-rFILE": ("pip install -rr.txt", {}, {"r.txt": f"-i {URL}\nsix\n"}),
    "-r file with --extra-index-url=": (
        "pip install -r r.txt",
        {},
        {"r.txt": f"--extra-index-url={URL}\nsix\n"},
    ),
    "-r file with -f": (
        "pip install -r r.txt",
        {},
        {"r.txt": "-f https://index.test/links.html\nsix\n"},
    ),
    "-r file with a variable": (
        "pip install -r r.txt",
        {"T": "tok"},
        {"r.txt": "-i https://${T}@index.test/simple\n"},
    ),
    "-r file, host in a variable": (
        "pip install -r r.txt",
        {"HOST": "index.test"},
        {"r.txt": "-i https://${HOST}/simple\n"},
    ),
    "-r file with a direct URL": (
        "pip install -r r.txt",
        {},
        {"r.txt": "six @ https://index.test/six.whl --hash=sha256:0\n"},
    ),
    "-r file with a bare URL": (
        "pip install -r r.txt",
        {},
        {"r.txt": "https://index.test/six-1.0.tar.gz#sha256=0\n"},
    ),
    "-r nested": (
        "pip install -r a/r.txt",
        {},
        {"a/r.txt": "-r deeper/base.txt\n", "a/deeper/base.txt": f"--index-url {URL}\n"},
    ),
    "-c nested in -r": (
        "pip install -r r.txt",
        {},
        {"r.txt": "-c c.txt\nsix\n", "c.txt": "six @ https://index.test/six.whl\n"},
    ),
    "-c on the command line": (
        "pip install -c c.txt six",
        {},
        {"c.txt": "six @ https://index.test/six.whl\n"},
    ),
    "-r remote file": ("pip install -r https://index.test/r.txt", {}, {}),
    "-r file continued line": (
        "pip install -r r.txt",
        {},
        {"r.txt": f"--index-url \\\n  {URL}\nsix\n"},
    ),
    # pip: variables and configuration
    "PIP_INDEX_URL": ("pip install six", {"PIP_INDEX_URL": URL}, {}),
    "PIP_EXTRA_INDEX_URL, second of two": (
        "pip install six",
        {"PIP_EXTRA_INDEX_URL": f"https://other.test/s {URL}"},
        {},
    ),
    "PIP_FIND_LINKS": ("pip install six", {"PIP_FIND_LINKS": "https://index.test/links.html"}, {}),
    "PIP_REQUIREMENT": ("pip install", {"PIP_REQUIREMENT": "r.txt"}, {"r.txt": f"-i {URL}\nsix\n"}),
    "PIP_CONSTRAINT": (
        "pip install six",
        {"PIP_CONSTRAINT": "c.txt"},
        {"c.txt": "six @ https://index.test/six.whl\n"},
    ),
    "PIP_CONFIG_FILE": (
        "pip install six",
        {"PIP_CONFIG_FILE": "own.conf"},
        {"own.conf": f"[global]\nindex-url = {URL}\n"},
    ),
    "pip.conf of the user": (
        "pip install six",
        {},
        {"~/.config/pip/pip.conf": f"[global]\nindex_url: {URL}\n"},
    ),
    "pip.conf, the old place": (
        "pip install six",
        {},
        {"~/.pip/pip.conf": f"[global]\nindex-url = {URL}\n"},
    ),
    "pip.conf, section of a command": (
        "pip install six",
        {},
        {"~/.config/pip/pip.conf": f"[install]\nindex-url = {URL}\n"},
    ),
    "pip.conf, list over lines": (
        "pip install six",
        {},
        {
            "~/.config/pip/pip.conf": f"[global]\nextra-index-url =\n    https://other.test/s\n    {URL}\n"
        },
    ),
    "pip.conf of a virtual environment": (
        "pip install six",
        {},
        {".venv/pip.conf": f"[global]\nindex-url = {URL}\n"},
    ),
    "netrc, host from pip.conf": (
        "pip install six",
        {},
        {
            "~/.netrc": "machine index.test login me password x\n",
            "~/.config/pip/pip.conf": f"[global]\nindex-url={URL}\n",
        },
    ),
    # projects
    "project.dependencies with a URL": (
        "pip install .",
        {},
        {"pyproject.toml": PYPROJECT + f'dependencies = ["six @ {URL}/six.whl"]\n'},
    ),
    "optional-dependencies with a URL": (
        "pip install .[x]",
        {},
        {
            "pyproject.toml": PYPROJECT
            + f'[project.optional-dependencies]\nx = ["six @ {URL}/six.whl"]\n'
        },
    ),
    "build-system.requires with a URL": (
        "pip wheel .",
        {},
        {"pyproject.toml": f'[build-system]\nrequires = ["six @ {URL}/six.whl"]\n'},
    ),
    "dependency group with a URL": (
        "pip install --group dev",
        {},
        {"pyproject.toml": f'[dependency-groups]\ndev = ["s @ {URL}/s.whl"]\n'},
    ),
    "-e of a local project": (
        "pip install -e ./sub[dev]",
        {},
        {"sub/pyproject.toml": PYPROJECT + f'dependencies = ["s @ {URL}/s.whl"]\n'},
    ),
    # uv
    "tool.uv.index": (
        "uv sync",
        {},
        {"pyproject.toml": f'[[tool.uv.index]]\nname = "own"\nurl = "{URL}"\n'},
    ),
    "tool.uv.index-url": ("uv sync", {}, {"pyproject.toml": f'[tool.uv]\nindex-url = "{URL}"\n'}),
    "tool.uv.extra-index-url": (
        "uv sync",
        {},
        {"pyproject.toml": f'[tool.uv]\nextra-index-url = ["{URL}"]\n'},
    ),
    "tool.uv.find-links": (
        "uv sync",
        {},
        {"pyproject.toml": '[tool.uv]\nfind-links = ["https://index.test/links.html"]\n'},
    ),
    "tool.uv.pip.index-url": (
        "uv pip install x",
        {},
        {"pyproject.toml": f'[tool.uv.pip]\nindex-url = "{URL}"\n'},
    ),
    "tool.uv.sources by URL": (
        "uv sync",
        {},
        {"pyproject.toml": '[tool.uv.sources]\nx = { url = "https://index.test/x-1.tar.gz" }\n'},
    ),
    "tool.uv.constraint-dependencies": (
        "uv lock",
        {},
        {"pyproject.toml": f'[tool.uv]\nconstraint-dependencies = ["x @ {URL}/x.whl"]\n'},
    ),
    "workspace member": (
        "uv sync",
        {},
        {
            "pyproject.toml": '[tool.uv.workspace]\nmembers = ["packages/*"]\n',
            "packages/a/pyproject.toml": f'[[tool.uv.index]]\nurl = "{URL}"\n',
        },
    ),
    "workspace member, deep": (
        "uv sync",
        {},
        {
            "pyproject.toml": '[tool.uv.workspace]\nmembers = ["**/pkg"]\n',
            "a/b/pkg/pyproject.toml": f'[tool.uv]\nindex-url = "{URL}"\n',
        },
    ),
    "path source": (
        "uv sync",
        {},
        {
            "pyproject.toml": '[tool.uv.sources]\nb = { path = "libs/b" }\n',
            "libs/b/pyproject.toml": PYPROJECT + f'dependencies = ["six @ {URL}/six.whl"]\n',
        },
    ),
    "uv.toml of the project": ("uv sync", {}, {"uv.toml": UV_INDEX}),
    "uv.toml of the user": ("uv sync", {}, {"~/.config/uv/uv.toml": UV_INDEX}),
    "UV_CONFIG_FILE": ("uv sync", {"UV_CONFIG_FILE": "own.toml"}, {"own.toml": UV_INDEX}),
    "uv --config-file": ("uv --config-file own.toml sync", {}, {"own.toml": UV_INDEX}),
    "UV_INDEX with a name": ("uv sync", {"UV_INDEX": f"own={URL}"}, {}),
    "UV_DEFAULT_INDEX": ("uv sync", {"UV_DEFAULT_INDEX": URL}, {}),
    "UV_INDEX_URL": ("uv sync", {"UV_INDEX_URL": URL}, {}),
    "UV_EXTRA_INDEX_URL": ("uv sync", {"UV_EXTRA_INDEX_URL": f"https://other.test/s {URL}"}, {}),
    "UV_FIND_LINKS, by comma": (
        "uv sync",
        {"UV_FIND_LINKS": "./wheels,https://index.test/links.html"},
        {},
    ),
    "uv --index NAME=URL": (f"uv add six --index own={URL}", {}, {}),
    "uv --default-index": (f"uv sync --default-index {URL}", {}, {}),
    "uvx --index": (f"uvx --index {URL} ruff", {}, {}),
    "uv tool run --from URL": ("uv tool run --from https://index.test/x-1.tar.gz x", {}, {}),
    "uv --directory": ("uv --directory sub sync", {}, {"sub/uv.toml": UV_INDEX}),
    "uv --with-requirements": (
        "uv run --with-requirements r.txt x",
        {},
        {"r.txt": f"--index-url {URL}\n"},
    ),
    "script metadata": ("uv run script.py", {}, {"script.py": SCRIPT}),
    "script metadata, direct URL": (
        "uv run script.py",
        {},
        {
            "script.py": '# /// script\n# dependencies = ["six @ https://index.test/six.whl"]\n# ///\n'
        },
    ),
    "uv.lock": (
        "uv sync",
        {},
        {
            "uv.lock": '[[package]]\nname = "six"\nwheels = [\n { url = "https://index.test/f/six.whl" },\n]\n'
        },
    ),
    "uv.lock, registry": (
        "uv sync",
        {},
        {"uv.lock": f'[[package]]\nname = "six"\nsource = {{ registry = "{URL}" }}\n'},
    ),
    "pylock.toml": (
        "uv pip sync pylock.toml",
        {},
        {"pylock.toml": '[[packages]]\nwheels = [{url = "https://index.test/six.whl"}]\n'},
    ),
    # poetry, pdm, pipenv
    "tool.poetry.source": (
        "poetry install",
        {},
        {"pyproject.toml": f'[[tool.poetry.source]]\nname = "own"\nurl = "{URL}"\n'},
    ),
    "poetry dependency by URL": (
        "poetry install",
        {},
        {
            "pyproject.toml": '[tool.poetry.dependencies]\nx = { url = "https://index.test/x.whl" }\n'
        },
    ),
    "poetry group dependency by URL": (
        "poetry install",
        {},
        {
            "pyproject.toml": '[tool.poetry.group.dev.dependencies]\nx = { url = "https://index.test/x.whl" }\n'
        },
    ),
    "poetry repositories of the user": (
        "poetry install",
        {},
        {"~/.config/pypoetry/config.toml": f'[repositories.own]\nurl = "{URL}"\n'},
    ),
    "poetry.toml": ("poetry install", {}, {"poetry.toml": f'[repositories.own]\nurl = "{URL}"\n'}),
    "POETRY_REPOSITORIES": ("poetry install", {"POETRY_REPOSITORIES_OWN_URL": URL}, {}),
    "poetry.lock": (
        "poetry install",
        {},
        {
            "poetry.lock": f'[[package]]\nname = "x"\n[package.source]\ntype = "legacy"\nurl = "{URL}"\n'
        },
    ),
    "tool.pdm.source": (
        "pdm install",
        {},
        {"pyproject.toml": f'[[tool.pdm.source]]\nname = "own"\nurl = "{URL}"\n'},
    ),
    "pdm config pypi.url": (
        "pdm install",
        {},
        {"~/.config/pdm/config.toml": f'[pypi]\nurl = "{URL}"\n'},
    ),
    "pdm.toml": ("pdm install", {}, {"pdm.toml": f'[pypi]\nurl = "{URL}"\n'}),
    "pdm config, further source": (
        "pdm install",
        {},
        {"~/.config/pdm/config.toml": f'[pypi.own]\nurl = "{URL}"\n'},
    ),
    "PDM_PYPI_URL": ("pdm install", {"PDM_PYPI_URL": URL}, {}),
    "pdm.lock": (
        "pdm sync",
        {},
        {
            "pdm.lock": '[[package]]\nfiles = [\n    {url = "https://index.test/six.whl", hash = "sha256:0"},\n]\n'
        },
    ),
    "Pipfile": ("pipenv install", {}, {"Pipfile": f'[[source]]\nname = "own"\nurl = "{URL}"\n'}),
    "PIPENV_PYPI_MIRROR": ("pipenv install", {"PIPENV_PYPI_MIRROR": URL}, {}),
    "Pipfile.lock": (
        "pipenv sync",
        {},
        {"Pipfile.lock": f'{{"_meta": {{"sources": [{{"name": "own", "url": "{URL}"}}]}}}}'},
    ),
    "Pipfile.lock, credentials in a variable": (
        "pipenv sync",
        {"T": "tok"},
        {"Pipfile.lock": '{"_meta": {"sources": [{"url": "https://me:${T}@index.test/simple"}]}}'},
    ),
    # what runs other tools
    "pipx --index-url": (f"pipx install --index-url {URL} black", {}, {}),
    "pipx --pip-args": (("pipx", "install", f"--pip-args=--index-url {URL}", "black"), {}, {}),
    "pipx --pip-args=--index-url=": (
        ("pipx", "install", f"--pip-args=--index-url={URL}", "black"),
        {},
        {},
    ),
    "tox.ini set_env": (
        "tox",
        {},
        {"tox.ini": f"[testenv]\nset_env =\n    PIP_INDEX_URL = {URL}\n"},
    ),
    "tox.ini default of a variable": (
        "tox",
        {},
        {"tox.ini": f"[testenv]\nset_env =\n    PIP_INDEX_URL = {{env:PIP_INDEX_URL:{URL}}}\n"},
    ),
    "tox.ini deps with -r": (
        "tox",
        {},
        {"tox.ini": "[testenv]\ndeps = -r reqs/t.txt\n", "reqs/t.txt": f"-i {URL}\n"},
    ),
    "tox.ini deps with a URL": (
        "tox",
        {},
        {"tox.ini": "[testenv]\ndeps =\n    six @ https://index.test/six.whl\n"},
    ),
    "tox.ini indexserver": ("tox", {}, {"tox.ini": f"[tox]\nindexserver =\n    default = {URL}\n"}),
    "noxfile": (
        "nox",
        {},
        {"noxfile.py": f'def x(session):\n    session.install("--index-url", "{URL}", "six")\n'},
    ),
    "noxfile, variable": ("nox", {}, {"noxfile.py": f'ENV = {{"UV_INDEX_URL": "{URL}"}}\n'}),
    "noxfile with -r": (
        "nox",
        {},
        {"noxfile.py": 'session.install("-r", "t.txt")\n', "t.txt": f"-i {URL}\n"},
    ),
    "Makefile, option": (
        "make install",
        {},
        {"Makefile": f"install:\n\tpip install --index-url {URL} six\n"},
    ),
    "Makefile, exported variable": (
        "make install",
        {},
        {"Makefile": f"export PIP_INDEX_URL := {URL}\ninstall:\n\tpip install six\n"},
    ),
    "make -C": (
        "make -C sub install",
        {},
        {"sub/Makefile": f"install:\n\tpip install -i {URL} six\n"},
    ),
    "justfile": (
        "just install",
        {},
        {"justfile": f"install:\n    uv pip install --default-index {URL} six\n"},
    ),
    "shell script": (
        "./install.sh",
        {},
        {"install.sh": f'#!/bin/sh\nexport PIP_EXTRA_INDEX_URL="{URL}"\npip install six\n'},
    ),
    "shell script without suffix": ("sh build/go", {}, {"build/go": f"pip install -i {URL} six\n"}),
    "setup.cfg": (
        "python setup.py install",
        {},
        {"setup.cfg": f"[easy_install]\nindex_url = {URL}\n"},
    ),
    "hatch, env-vars": (
        "hatch run x",
        {},
        {"pyproject.toml": f'[tool.hatch.envs.default.env-vars]\nPIP_INDEX_URL = "{URL}"\n'},
    ),
    ".env": ("just x", {}, {".env": f"UV_INDEX_URL={URL}\n"}),
    "requirements.in": ("pip-compile", {}, {"requirements.in": f"--index-url {URL}\nsix\n"}),
    # conda and its relatives
    "environment.yml, channel": (
        "conda env create",
        {},
        {"environment.yml": "channels:\n  - https://index.test/conda\n"},
    ),
    "environment.yml, pip part": (
        "conda env create",
        {},
        {
            "environment.yml": f"dependencies:\n  - python\n  - pip:\n    - --index-url {URL}\n    - six\n"
        },
    ),
    "environment.yml, pip part with -r": (
        "mamba env create",
        {},
        {"environment.yml": "dependencies:\n  - pip:\n      - -r r.txt\n", "r.txt": f"-i {URL}\n"},
    ),
    "environment file by -f": (
        "conda env create -f e/own.yaml",
        {},
        {"e/own.yaml": "channels: [https://index.test/conda]\n"},
    ),
    "condarc channels": (
        "conda install x",
        {},
        {"~/.condarc": "channels:\n- https://index.test/conda  # ours\n- defaults\n"},
    ),
    "condarc channel_alias": (
        "conda install x",
        {},
        {"~/.condarc": "channel_alias: https://index.test/conda\n"},
    ),
    "condarc channel_alias without scheme": (
        "conda install x",
        {},
        {"~/.condarc": "channel_alias: index.test/conda\n"},
    ),
    "condarc custom_channels": (
        "conda install x",
        {},
        {"~/.condarc": "custom_channels:\n  own: https://index.test/conda\n"},
    ),
    "condarc default_channels": (
        "conda install x",
        {},
        {"~/.conda/condarc": "default_channels: ['https://index.test/main']\n"},
    ),
    "condarc.d": (
        "conda install x",
        {},
        {"~/.config/conda/condarc.d/a.yml": "channels:\n  - https://index.test/conda\n"},
    ),
    "condarc with a token": (
        "conda install x",
        {},
        {"~/.condarc": "channels:\n  - https://index.test/t/tk-123/conda\n"},
    ),
    "CONDARC": (
        "conda install x",
        {"CONDARC": "own.yml"},
        {"own.yml": "channels:\n  - https://index.test/conda\n"},
    ),
    "mambarc": (
        "micromamba install x",
        {},
        {"~/.mambarc": "channels:\n  - https://index.test/conda\n"},
    ),
    "conda -c": ("conda install -c https://index.test/conda x", {}, {}),
    "conda --channel=": ("mamba install --channel=https://index.test/conda x", {}, {}),
    "conda URL::name": ("conda install https://index.test/conda::x", {}, {}),
    "conda archive by URL": ("conda install https://index.test/conda/linux-64/x-1-0.conda", {}, {}),
    "CONDA_CHANNELS": (
        "conda install x",
        {"CONDA_CHANNELS": "defaults,https://index.test/conda"},
        {},
    ),
    "conda explicit file": (
        "conda create --file s.txt",
        {},
        {"s.txt": "@EXPLICIT\nhttps://index.test/c/linux-64/x-1-0.conda#0\n"},
    ),
    "pixi.toml channels": (
        "pixi install",
        {},
        {"pixi.toml": '[workspace]\nchannels = ["https://index.test/conda"]\n'},
    ),
    "pixi.toml pypi-options": (
        "pixi install",
        {},
        {"pixi.toml": f'[pypi-options]\nindex-url = "{URL}"\n'},
    ),
    "tool.pixi": (
        "pixi install",
        {},
        {"pyproject.toml": '[tool.pixi.workspace]\nchannels = ["https://index.test/conda"]\n'},
    ),
    "pixi mirrors": (
        "pixi install",
        {},
        {
            "~/.pixi/config.toml": '[mirrors]\n"https://conda.anaconda.org/x" = ["https://index.test/x"]\n'
        },
    ),
    "pixi -c": ("pixi global install -c https://index.test/conda x", {}, {}),
    "pixi.lock": (
        "pixi install",
        {},
        {"pixi.lock": "packages:\n- conda: https://index.test/x/linux-64/x-1-0.conda\n"},
    ),
    # downloads by other programs
    "curl URL": ("curl -sSfLO https://index.test/files/x.tar.gz", {}, {}),
    "wget URL": ("wget https://index.test/files/x.tar.gz", {}, {}),
    "Python script, package URL in it": (
        "python get.py",
        {},
        {"get.py": 'urlopen("https://index.test/simple/six/")\n'},
    ),
    "Python script, package URL in its words": (
        "python get.py https://index.test/six-1.0.tar.gz",
        {},
        {"get.py": ""},
    ),
}


@pytest.mark.parametrize(("argv", "environ", "files"), TOLD.values(), ids=TOLD.keys())
def test_an_index_is_found_wherever_a_client_is_told_of_it(sandbox, argv, environ, files):
    sandbox.environ.update(environ)
    sandbox.write(files)
    assert "index.test" in sandbox.opened(argv)


@pytest.mark.parametrize(("argv", "environ", "files"), TOLD.values(), ids=TOLD.keys())
def test_no_case_of_the_table_finds_the_index_without_what_tells_it(sandbox, argv, environ, files):
    """Guards the table itself: an emptied argv, environment and set of files name nothing."""
    sandbox.write(dict.fromkeys(files, ""))
    assert "index.test" not in sandbox.opened("pip install six")


CLOSED: dict[str, tuple[str | tuple[str, ...], dict[str, str], dict[str, str]]] = {
    "git+https on the command line": ("pip install git+https://code.test/x.git", {}, {}),
    "git+https in a requirement file": (
        "pip install -r r.txt",
        {},
        {"r.txt": "-e git+https://code.test/x.git#egg=x\n"},
    ),
    "name @ git+https": (
        "pip install -r r.txt",
        {},
        {"r.txt": "x @ git+https://code.test/x.git\n"},
    ),
    "tool.uv.sources by git": (
        "uv sync",
        {},
        {"pyproject.toml": '[tool.uv.sources]\nx = { git = "https://code.test/x" }\n'},
    ),
    "poetry dependency by git": (
        "poetry lock",
        {},
        {"pyproject.toml": '[tool.poetry.dependencies]\nx = { git = "https://code.test/x" }\n'},
    ),
    "poetry.lock, git source": (
        "poetry install",
        {},
        {"poetry.lock": '[package.source]\ntype = "git"\nurl = "https://code.test/x"\n'},
    ),
    "pylock.toml, vcs": (
        "uv pip sync pylock.toml",
        {},
        {"pylock.toml": 'vcs = {type = "git", url = "https://code.test/x"}\n'},
    ),
    "uv.lock, git": (
        "uv sync",
        {},
        {"uv.lock": 'source = { git = "https://code.test/x?rev=1" }\n'},
    ),
    "git clone": ("git clone https://code.test/x", {}, {}),
    "project.urls": (
        "pip install .",
        {},
        {"pyproject.toml": PYPROJECT + '[project.urls]\nhome = "https://code.test"\n'},
    ),
    ".pypirc, for uploads": (
        "pip install x",
        {},
        {"~/.pypirc": "[own]\nrepository = https://code.test/upload\n"},
    ),
    "publish-url": (
        "uv publish",
        {"UV_PUBLISH_URL": "https://code.test/u"},
        {"uv.toml": 'publish-url = "https://code.test/u"\n'},
    ),
    "comment in a requirement file": (
        "pip install -r r.txt",
        {},
        {"r.txt": "# -i https://code.test/simple\nsix # @ https://code.test/x\n"},
    ),
    "comment in a Makefile": (
        "make x",
        {},
        {"Makefile": "# pip install -i https://code.test/simple\nx:\n\ttrue\n"},
    ),
    "pip --proxy": ("pip --proxy http://code.test:3128 install six", {}, {}),
    "proxy in pip.conf": (
        "pip install six",
        {},
        {"~/.config/pip/pip.conf": "[global]\nproxy = http://code.test:3128\n"},
    ),
    "https-proxy in uv.toml": (
        "uv sync",
        {},
        {"uv.toml": 'https-proxy = "http://code.test:3128"\n'},
    ),
    "proxy_servers in condarc": (
        "conda install x",
        {},
        {"~/.condarc": "proxy_servers:\n  https: https://code.test:3128\n"},
    ),
    "python-install-mirror": ("uv sync", {"UV_PYTHON_INSTALL_MIRROR": "https://code.test/p"}, {}),
    "a server that a script talks to": (
        "python app.py --api https://code.test/v1",
        {},
        {"app.py": 'API = "https://code.test/v1"\n'},
    ),
    "a URL inside sh -c": (("sh", "-c", "deploy https://code.test/v1"), {}, {}),
    "a URL inside python -c": (("python", "-c", "import x; x.get('https://code.test/v1')"), {}, {}),
    "a URL in a script's text": ("sh go.sh", {}, {"go.sh": "deploy https://code.test/v1\n"}),
    "any word of any program": ("deploy --to https://code.test/v1", {}, {}),
    "curl's proxy": ("curl -x https://code.test:3128 https://index.test/x", {}, {}),
    "a pip.conf that the null device hides": (
        "pip install x",
        {"PIP_CONFIG_FILE": os.devnull},
        {"~/.config/pip/pip.conf": "[global]\nindex-url = https://code.test/simple\n"},
    ),
}


@pytest.mark.parametrize(("argv", "environ", "files"), CLOSED.values(), ids=CLOSED.keys())
def test_a_host_that_serves_no_packages_is_not_opened(sandbox, argv, environ, files):
    sandbox.environ.update(environ)
    sandbox.write(files)
    assert "code.test" not in sandbox.opened(argv)


@pytest.mark.parametrize(("argv", "environ", "files"), TOLD.values(), ids=TOLD.keys())
def test_no_reported_url_carries_credentials(sandbox, argv, environ, files):
    sandbox.environ.update(environ)
    sandbox.write(files)
    for setup in sandbox.setups(argv).values():
        for url in setup.indexes:
            assert "@" not in urlsplit(url).netloc
            assert not any(secret in url for secret in ("secret", "tk-123", "tok@"))


def test_the_default_index_and_its_files_come_from_pip_itself(sandbox):
    from pip._internal.models.index import PyPI

    for name in ("pip", "uv", "poetry", "pdm"):
        hosts = {urlsplit(url).hostname for url in sandbox.setups("pip install six")[name].indexes}
        assert {PyPI.netloc, PyPI.file_storage_domain} <= hosts


def test_conda_and_pixi_find_their_built_in_channels(sandbox):
    assert {
        "conda.anaconda.org",
        "repo.anaconda.com",
        "repo.prefix.dev",
        "prefix.dev",
    } <= sandbox.opened("pixi install")


def test_a_project_is_found_from_a_directory_below_it(sandbox):
    sandbox.write({"pyproject.toml": f'[[tool.uv.index]]\nurl = "{URL}"\n', "src/x/y.py": ""})
    assert "index.test" in sandbox.opened("uv sync", cwd="src/x")


@pytest.mark.parametrize(
    "files",
    [
        {"pyproject.toml": "[tool.uv\n"},
        {"uv.toml": "\x00\xff"},
        {"~/.config/pip/pip.conf": "no section\nindex-url\n[x\n"},
        {"~/.condarc": "channels: [\n\t- }}\n: :\n"},
        {"r.txt": "-r r.txt\n-r /\n-r ''\n-i http://[::1\n-i https://host:port/\n"},
        {
            "Pipfile.lock": "{",
            "Pipfile": "=",
            "poetry.toml": "certificates = 1",
            "pdm.toml": "pypi = 1",
        },
        {
            "pyproject.toml": '[tool]\nuv = 1\npoetry = { source = 1, group = [1] }\npdm = { source = "x" }\n'
        },
        {"pyproject.toml": '[tool.uv.workspace]\nmembers = ["**", "/", "", "[", "../../*"]\n'},
        {".git/config": "[http\nproxy\n=", ".npmrc": "=\ncafile\n"},
    ],
    ids=lambda files: next(iter(files)),
)
def test_broken_files_stop_no_command(sandbox, files):
    sandbox.write(files)
    for argv in (
        "pip install -r r.txt",
        "conda env create -f r.txt",
        'sh -c "unbalanced',
        "",
        "-r -r -c",
    ):
        sandbox.setups(argv)


def test_a_pipe_given_as_requirement_file_is_left_to_the_child(sandbox):
    os.mkfifo(sandbox.project / "pipe")
    sandbox.setups("pip install -r pipe")


def test_without_a_proxy_no_command_line_and_no_variable_is_changed(sandbox):
    sandbox.write({"uv.toml": 'https-proxy = "http://code.test:1"\n'})
    for setup in sandbox.setups(
        f"pip --proxy http://code.test:1 install -i {URL} six", proxy=None
    ).values():
        assert setup.argv is None
        assert not setup.environment
