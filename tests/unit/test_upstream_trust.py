"""The merged bundle: which certificates, in which order, and what is said of files that are no use."""

from __future__ import annotations

import ssl
import time

import pytest

from entrepot.upstream import trust
from entrepot.upstream.trust import merged_bundle

trustme = pytest.importorskip("trustme")


@pytest.fixture(scope="module")
def made():
    """PEM texts of four authorities."""
    return [
        trustme.CA(organization_name=f"authority {i}").cert_pem.bytes().decode() for i in range(4)
    ]


@pytest.fixture
def write(tmp_path, monkeypatch, made):
    """Write a file; the system's roots are the fourth authority."""
    system = tmp_path / "system.pem"
    system.write_text(made[3])
    monkeypatch.setattr(trust, "system_roots", lambda: [system])

    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def certificates(pem):
    """The DER certificates of a bundle, in order, by OpenSSL's own reading of PEM."""
    return [ssl.PEM_cert_to_DER_cert(block + trust_end) for block in pem.split(trust_end)[:-1]]


trust_end = "-----END CERTIFICATE-----\n"


def der(*pems):
    return [ssl.PEM_cert_to_DER_cert(pem) for pem in pems]


@pytest.mark.parametrize("name", trust.ROOT_VARIABLES)
def test_a_file_that_replaces_roots_stands_for_the_systems(write, made, name):
    assert certificates(merged_bundle({name: write("own.pem", made[0])}).pem) == der(made[0])


@pytest.mark.parametrize("name", trust.ADDING_VARIABLES)
def test_a_file_for_git_or_node_alone_is_added_to_the_systems_roots(write, made, name):
    """With only that file pip and uv could reach nothing that is tunnelled."""
    assert certificates(merged_bundle({name: write("own.pem", made[0])}).pem) == der(
        made[3], made[0]
    )


def test_all_named_files_are_merged_each_certificate_once_and_extra_last(write, made, tmp_path):
    environ = {
        "SSL_CERT_FILE": write("a.pem", made[1]),
        "PIP_CERT": write("b.pem", "# comment\r\n" + made[0].replace("\n", "\r\n") + made[1]),
        "GIT_SSL_CAINFO": write("c.pem", made[1] + made[0]),
    }
    write("run.pem", made[2])
    bundle = merged_bundle(environ, [tmp_path / "run.pem"])
    assert certificates(bundle.pem) == der(made[1], made[0], made[2])
    assert bundle.warnings == ()


def test_without_variables_the_systems_roots_come_first_and_extra_last(write, made, tmp_path):
    write("run.pem", made[2])
    assert certificates(merged_bundle({"HOME": "/x"}, [tmp_path / "run.pem"]).pem) == der(
        made[3], made[2]
    )


def test_without_system_roots_those_inside_pip_stand_in(write, monkeypatch):
    monkeypatch.setattr(trust, "system_roots", list)
    assert len(certificates(merged_bundle({}).pem)) > 50


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot be read"), ("", "holds no certificate"), ("hello", "holds no certificate"),
     ("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n", "holds no certificate"),
     ("-----BEGIN PRIVATE KEY-----\nMAAA\n-----END PRIVATE KEY-----\n", "holds no certificate")],
    ids=["missing", "empty", "text", "no base64", "a key"],
)  # fmt: skip
def test_a_file_of_no_use_is_warned_about_and_the_systems_roots_stay(
    write, made, tmp_path, content, said
):
    path = tmp_path / "own.pem"
    if content is not None:
        path.write_text(content)
    bundle = merged_bundle({"REQUESTS_CA_BUNDLE": str(path)})
    assert certificates(bundle.pem) == der(made[3])
    (warning,) = bundle.warnings
    assert warning.startswith(f"REQUESTS_CA_BUNDLE names {path}, which {said}")


def test_a_damaged_block_does_not_spoil_its_neighbours(write, made):
    broken = made[0].replace("M", "!", 40)
    assert certificates(
        merged_bundle({"SSL_CERT_FILE": write("a.pem", broken + made[1])}).pem
    ) == der(made[1])


@pytest.mark.parametrize("value", ["true", "False", "truststore", "<truststore>", "1", " "])
def test_conda_ssl_verify_that_is_a_switch_names_no_file(write, made, value):
    bundle = merged_bundle({"CONDA_SSL_VERIFY": value})
    assert (certificates(bundle.pem), bundle.warnings) == (der(made[3]), ())


def test_a_directory_is_read_file_by_file_pem_or_der(write, made, tmp_path):
    write("d/1.pem", made[0])
    write("d/2.der", der(made[1])[0])
    write("d/readme", "nothing")
    assert certificates(merged_bundle({"REQUESTS_CA_BUNDLE": str(tmp_path / "d")}).pem) == der(
        made[0], made[1]
    )


def test_ssl_cert_dir_is_added_for_our_own_side_only(write, made, tmp_path):
    write("d/1.pem", made[0])
    environ = {"SSL_CERT_DIR": str(tmp_path / "d")}
    assert certificates(merged_bundle(environ).pem) == der(made[3])
    assert certificates(merged_bundle(environ, directories=True).pem) == der(made[3], made[0])


def test_openssl_accepts_the_bundle(write, made):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(
        cadata=merged_bundle({"SSL_CERT_FILE": write("a.pem", "".join(made[:3]))}).pem
    )
    assert context.cert_store_stats()["x509_ca"] == 3


def test_a_usual_bundle_takes_milliseconds():
    """145 certificates in 10 ms of processor time.

    The bound is wide because the core may be shared.
    """
    from pip._vendor import certifi

    environ = {"SSL_CERT_FILE": certifi.where()}
    best = min(_seconds(lambda: merged_bundle(environ)) for _ in range(5))
    assert best < 0.1


def _seconds(call):
    began = time.process_time()
    call()
    return time.process_time() - began
