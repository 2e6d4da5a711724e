"""Against the real default index, wherever pip says it is: scipy and pandas, twice.

The second time no file is downloaded.
"""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest

import clients
from acceptance import Lab
from entrepot.tools._shared.defaults import default_index

PACKAGES = ("scipy", "pandas")
TRUST = (
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
)
"""What the machine needs to reach the outside."""
BOUND_S = 240
pytestmark = [pytest.mark.registry, pytest.mark.slow, pytest.mark.timeout(2 * BOUND_S + 60)]


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A store, and a default index that answers."""
    index = default_index()
    if not index:
        pytest.skip("this pip does not say where the default index is")
    machine = {name: clients.MACHINE[name] for name in TRUST if name in clients.MACHINE}
    for name, value in machine.items():
        monkeypatch.setenv(name, value)
    try:
        urllib.request.urlopen(f"{index[0].rstrip('/')}/six/", timeout=10).close()
    except (OSError, urllib.error.URLError) as exc:
        pytest.skip(f"the default index cannot be reached: {exc}")
    return Lab(tmp_path, (), machine)


@pytest.mark.parametrize("tool", ["pip download", "uv pip install"])
def test_from_the_default_index_no_file_is_downloaded_twice(lab, tool):
    if tool == "pip download":
        command = [
            *clients.pip("26.3"),
            "download",
            "-q",
            "--only-binary",
            ":all:",
            "-d",
            "TARGET",
            *PACKAGES,
        ]
    else:
        command = [
            *clients.uv(),
            "pip",
            "install",
            "-q",
            "--only-binary",
            ":all:",
            "--target",
            "TARGET",
            *PACKAGES,
        ]
    first = lab.run(*command, timeout_s=BOUND_S).ok()
    fetched = [
        entry
        for entry in first.report["entries"]
        if entry["url"].endswith(".whl") and entry["outcome"] == "miss"
    ]
    assert {"scipy", "pandas", "numpy"} <= {entry["project"] for entry in fetched}
    assert first.report["uncached_hosts"] == {}
    second = lab.run(*command, timeout_s=BOUND_S).ok()
    assert {
        entry["outcome"]
        for entry in second.report["entries"]
        if entry["url"].endswith((".whl", ".metadata"))
    } == {"hit"}
    assert second.report["bytes_downloaded"] < first.report["bytes_downloaded"] / 5, "pages alone"
    assert second.report["errors"] == 0
    assert all(head.proven for head in lab.heads() if head.kind == "wheel")
