"""Real clients against the tests' own origin, with nothing in between.

What goes wrong elsewhere is not its fault.
"""

from __future__ import annotations

import pytest

import clients
from entrepot.testing import profiles
from entrepot.testing.origin import Origin

PIPS = [pytest.param(version, id=f"pip-{version}") for version in clients.PIPS]


def installed(directory) -> set[str]:
    return {path.name.removesuffix(".dist-info") for path in directory.glob("*.dist-info")}


def everything(count: int) -> set[str]:
    return {f"synth_{i:04d}-1.1" for i in range(count)}


def install(command, origin: Origin, environment, target, *words):
    extra = ["--disable-pip-version-check"] if "pip" in command[-1] and len(command) > 1 else []
    return clients.run(
        [*command, "install", *extra, "--index-url", origin.index_url, "--target", target, *words],
        environment,
    )


def uv_pip() -> list[str]:
    return [*clients.uv(), "pip"]


@pytest.mark.parametrize("version", PIPS)
def test_every_pip_installs_ten_requirements_and_gets_thirty_packages(
    version, origin: Origin, environment, tmp_path
):
    names = origin.synth(30)
    done = install(
        clients.pip(version), origin, environment, tmp_path / "target", "--no-cache-dir", *names
    )
    assert done.returncode == 0, done.stderr
    assert installed(tmp_path / "target") == everything(30)
    assert origin.count("whl$", method="GET", status=200) == 30


def test_uv_installs_them_too(origin: Origin, environment, tmp_path):
    names = origin.synth(30)
    python = clients.python()
    done = install(
        uv_pip(), origin, environment, tmp_path / "target", "--python", python, "--no-cache", *names
    )
    assert done.returncode == 0, done.stderr
    assert installed(tmp_path / "target") == everything(30)
    assert origin.count("whl$", method="GET") == 30


def test_pip_trusts_the_authority_that_it_is_given(origin_tls: Origin, environment, tmp_path):
    names = origin_tls.synth(3)
    environment["PIP_CERT"] = str(origin_tls.ca_file)
    done = install(clients.pip("26.3"), origin_tls, environment, tmp_path / "target", *names)
    assert done.returncode == 0, done.stderr


def test_uv_trusts_the_authority_that_it_is_given(origin_tls: Origin, environment, tmp_path):
    names = origin_tls.synth(3)
    environment["SSL_CERT_FILE"] = str(origin_tls.ca_file)
    done = install(
        uv_pip(), origin_tls, environment, tmp_path / "target", "--python", clients.python(), *names
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("client", ["pip", "uv"])
def test_an_sdist_is_built_by_its_own_backend_with_what_it_needs(
    client, origin: Origin, environment, tmp_path
):
    origin.add_project("needed")
    origin.add_project("built", sdist=True, wheel=False, build_requires=["needed"])
    command, words = (
        (clients.pip("26.3"), []) if client == "pip" else (uv_pip(), ["--python", clients.python()])
    )
    done = install(command, origin, environment, tmp_path / "target", *words, "built")
    assert done.returncode == 0, done.stderr
    assert installed(tmp_path / "target") == {"built-1.0"}
    assert origin.count("needed.*whl$") >= 1


@pytest.mark.parametrize(
    ("profile", "fetched"),
    [(profiles.index_like, 3), (profiles.bare, 6)],
    ids=["fields", "no fields"],
)
def test_pip_fetches_files_once_only_where_fields_allow_it(
    profile, fetched, origin_tls: Origin, environment, tmp_path
):
    """Over https: pip never caches what comes over http."""
    origin_tls.profile = profile
    names = origin_tls.synth(3)
    environment["PIP_CERT"] = str(origin_tls.ca_file)
    for number in range(2):
        assert (
            install(
                clients.pip("26.3"), origin_tls, environment, tmp_path / str(number), *names
            ).returncode
            == 0
        )
    assert origin_tls.count("whl$") == fetched


def test_pip_refuses_a_flipped_byte(origin: Origin, environment, tmp_path):
    origin.add_project("example", size=50_000)
    origin.fault("whl$", "corrupt", times=-1)
    done = install(clients.pip("26.3"), origin, environment, tmp_path / "target", "example")
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr


def test_pip_follows_a_redirect_to_a_signed_address(origin: Origin, environment, tmp_path):
    origin.add_project("example")
    origin.redirect_files = True
    done = install(clients.pip("26.3"), origin, environment, tmp_path / "target", "example")
    assert done.returncode == 0, done.stderr
    assert origin.count("^/signed/", status=200) >= 1


def test_pip_sends_the_credentials_of_its_index(origin: Origin, environment, tmp_path):
    names = origin.synth(3)
    origin.protect("me", "secret")
    url = origin.index_url.replace("://", "://me:secret@")
    command = [
        *clients.pip("26.3"),
        "install",
        "--index-url",
        url,
        "--target",
        tmp_path / "target",
        *names,
    ]
    done = clients.run(command, environment)
    assert done.returncode == 0, done.stderr
    assert origin.count("whl$", status=200) == 3


def test_a_page_of_links_is_enough_for_pip(origin: Origin, environment, tmp_path):
    names = origin.synth(3)
    links = ["--no-index", "--find-links", origin.add_link_page()]
    done = clients.run(
        [*clients.pip("26.3"), "install", *links, "--target", tmp_path / "target", *names],
        environment,
    )
    assert done.returncode == 0, done.stderr
    assert installed(tmp_path / "target") == everything(3)


def test_curl_resumes_where_it_was_cut(origin: Origin, environment, tmp_path):
    file = origin.add_project("big", size=3_000_000)[0]
    origin.fault("whl$", "truncate", at=0.3)
    target = tmp_path / file.filename
    for expected in (18, 0):
        done = clients.run(
            [*clients.curl(), "-sS", "-C", "-", "-o", target, origin.url(file)], environment
        )
        assert done.returncode == expected, done.stderr
    assert target.read_bytes() == file.content.whole()
    assert origin.log[1].ranged
