"""The picture of a terminal in the README, drawn from the output of real commands.

    python bench/terminal.py            writes docs/terminal.svg

Needs an index that it can reach by the machine's own settings, and pip and uv beside this Python
(`pip install -e '.[test]'`). HOME is an empty directory of its own. Ends with an error when a
command fails or when the output names a host.
"""

import os
import re
import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "terminal.svg"
REQUIREMENTS = "flask\nhttpx\nnumpy\n"
COMMANDS = (
    "entrepot run -- pip download -q -d wheels -r requirements.txt",
    "entrepot run -- uv pip install -q -r requirements.txt",
    "entrepot run --offline -- pip download -q -d again -r requirements.txt",
    "entrepot",
    "entrepot list numpy",
    "entrepot remove numpy -n",
)
FONT_PX, LINE_PX, LETTER_PX, MARGIN_PX = 14, 20, 8.45, 18
BACKGROUND, TEXT, PROMPT, COMMAND = "#1d2128", "#c8ccd4", "#7fb685", "#ffffff"


def session() -> list[tuple[str, list[str]]]:
    """Each command with the lines it printed, on one new machine, so to speak."""
    with tempfile.TemporaryDirectory(prefix="terminal-") as folder:
        home = Path(folder)
        (home / "requirements.txt").write_text(REQUIREMENTS)
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("XDG_", "ENTREPOT_", "UV_CACHE", "PIP_CACHE"))
        }
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        environ = kept | {"HOME": folder, "PATH": path, "VIRTUAL_ENV": f"{folder}/.venv"}
        run = {"cwd": home, "env": environ, "text": True}
        subprocess.run(["uv", "venv", "-q", ".venv"], check=True, **run)
        told = []
        for command in COMMANDS:
            done = subprocess.run(
                ["sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **run
            )
            if done.returncode:
                sys.exit(f"{command}: status {done.returncode}\n{done.stdout}")
            told.append((command, done.stdout.replace(folder, "~").rstrip().splitlines()))
    return told


def picture(told: list[tuple[str, list[str]]]) -> str:
    """An SVG of a terminal window that holds it."""
    rows: list[str] = []
    for command, lines in told:
        prompt, words = f'<tspan fill="{PROMPT}">$</tspan>', escape(command)
        rows.append(f'{prompt} <tspan fill="{COMMAND}" font-weight="bold">{words}</tspan>')
        rows += [escape(line) for line in lines]
        rows.append("")
    longest = max(len(line) for command, lines in told for line in (f"$ {command}", *lines))
    width = round(longest * LETTER_PX + 2 * MARGIN_PX)
    height = (len(rows) - 1) * LINE_PX + 2 * MARGIN_PX
    texts = "\n".join(
        f'<text x="{MARGIN_PX}" y="{MARGIN_PX + number * LINE_PX + FONT_PX}">{row}</text>'
        for number, row in enumerate(rows)
        if row
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="A terminal session with entrepot">\n'
        f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>\n'
        f'<g xml:space="preserve" fill="{TEXT}" font-size="{FONT_PX}" '
        f"font-family=\"ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace\">\n"
        f"{texts}\n</g>\n</svg>\n"
    )


if __name__ == "__main__":
    TOLD = session()
    HOSTS = re.findall(r"\w+://\S+|\b[\w-]+\.(?:org|com|io|net)\b", str(TOLD))
    if HOSTS:
        sys.exit(f"the output names hosts: {HOSTS}")
    PICTURE.write_text(picture(TOLD), encoding="utf-8")
