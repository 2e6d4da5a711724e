"""Asking conda itself what a setting is after a change.

Only ``config`` does this; it costs about a second.

conda masks ``/t/TOKEN/`` in what it shows, also as JSON (conda 26.7, by experiment): such an answer
proves nothing.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from entrepot.ports.tool import Surroundings
from entrepot.tools._shared.safe_read import is_file
from entrepot.tools.conda.roots import conda_roots


def command(around: Surroundings) -> Path | None:
    """The conda in use; ``None`` when there is none."""
    named = around.environ.get("CONDA_EXE")
    if named and is_file(named):
        return Path(named)
    names = (
        ("Scripts/conda.exe",) if around.platform == "win32" else ("bin/conda", "condabin/conda")
    )
    found = (root.path / name for root in conda_roots(around) for name in names)
    return next((path for path in found if is_file(path)), None)


def shown(key: str, around: Surroundings, *, timeout_s: float = 60) -> str | None:
    """What ``conda config --show KEY`` says, a list's entries separated by commas.

    ``None`` without an answer.

    Args:
        key: a setting.
        around: the world; its variables are the child's.
        timeout_s: seconds to wait.
    """
    conda = command(around)
    if conda is None:
        return None
    words = [str(conda), "config", "--show", key, "--json"]
    try:
        done = subprocess.run(
            words,
            env=dict(around.environ),
            cwd=around.cwd,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        data: Any = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    value = data.get(key) if isinstance(data, dict) else None
    text = _text(value)
    return None if text is None or "<TOKEN>" in text else text


def _text(value: Any) -> str | None:
    if isinstance(value, list):
        return ",".join(str(each) for each in value)
    if isinstance(value, bool):
        return str(value).lower()
    return None if value is None or isinstance(value, dict) else str(value)
