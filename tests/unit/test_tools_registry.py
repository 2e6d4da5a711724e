"""The tools are imported only when they are asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap


def loaded_after(code):
    """Names of the modules that a fresh interpreter has after running some code."""
    code = textwrap.dedent(code) + "\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=environ,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_looking_at_the_registry_imports_no_client_setup():
    assert not {
        name
        for name in loaded_after("import entrepot.tools.registry")
        if "tools.client_setup." in name
    }


def test_setting_up_the_clients_of_a_command_imports_nothing_heavy():
    """A parser of YAML or of round-trip TOML would cost more than all client setups together."""
    loaded = loaded_after("""
        import os, pathlib
        from entrepot.ports.client_setup import Command, ProxyAddress
        from entrepot.ports.tool import Surroundings
        from entrepot.tools.client_setup.clients import client_setups
        command = Command(("pip", "install", "six"), Surroundings(dict(os.environ), pathlib.Path.home(), pathlib.Path.cwd()))
        client_setups(command, ProxyAddress("http://run:token@127.0.0.1:1", "/bundle.pem", False))
    """)
    assert any(name.endswith("client_setup.clients") for name in loaded)
    heavy = {
        "yaml",
        "ruamel.yaml",
        "tomlkit",
        "asyncio",
        "ssl",
        "rich",
        "logging",
        "pip",
        "packaging",
        "subprocess",
    }
    assert not heavy & loaded
