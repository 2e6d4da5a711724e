"""The run's authority.

Shapes of certificates by parsing them, contexts, and that no key lies anywhere.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import ssl
import subprocess
import sys

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from entrepot.server.certificates import Authority
from entrepot.server.tls import TlsTransport, names_unheard
from stopwatch import Stopwatch

LONG = f"{'a' * 60}.{'b' * 20}.test"


def leaf(authority: Authority, host: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(authority._leaf(host))


def extension(certificate, kind):
    return certificate.extensions.get_extension_for_class(kind)


def test_the_authority_has_the_shape_that_every_client_accepts():
    found = x509.load_pem_x509_certificate(Authority().pem.encode())
    basic, usage = extension(found, x509.BasicConstraints), extension(found, x509.KeyUsage)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    assert (
        usage.critical,
        usage.value.key_cert_sign,
        usage.value.crl_sign,
        usage.value.digital_signature,
    ) == (
        True,
        True,
        True,
        False,
    )
    assert extension(
        found, x509.SubjectKeyIdentifier
    ).value == x509.SubjectKeyIdentifier.from_public_key(found.public_key())
    assert isinstance(found.public_key().curve, ec.SECP256R1)
    assert found.signature_hash_algorithm.name == "sha256"
    found.verify_directly_issued_by(found)


@pytest.mark.parametrize("host", ["index.test", "127.0.0.1", "::1", LONG, "x_y.test", "localhost"])
def test_a_leaf_is_for_exactly_its_host(host):
    authority = Authority()
    found, root = leaf(authority, host), x509.load_pem_x509_certificate(authority.pem.encode())
    names = extension(found, x509.SubjectAlternativeName)
    try:
        expected = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        expected = x509.DNSName(host)
    assert list(names.value) == [expected]
    common = found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if isinstance(expected, x509.IPAddress) or len(host) > 64:
        assert (list(found.subject), names.critical) == ([], True), (
            "OpenSSL checks a common name as a DNS name"
        )
    else:
        assert [name.value for name in common] == [host]
    assert (
        extension(found, x509.AuthorityKeyIdentifier).value.key_identifier
        == extension(root, x509.SubjectKeyIdentifier).value.digest
    )
    assert list(extension(found, x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    usage = extension(found, x509.KeyUsage)
    assert (usage.critical, usage.value.digital_signature, usage.value.key_cert_sign) == (
        True,
        True,
        False,
    )
    assert extension(found, x509.BasicConstraints).value.ca is False
    found.verify_directly_issued_by(root)


def test_the_authority_is_valid_for_30_days_and_a_host_for_one_which_is_renewed():
    """What outlives the run, or leaks from it, is of no use for long."""
    now = dt.datetime.now(dt.UTC)
    authority = Authority(lambda: now)
    root = x509.load_pem_x509_certificate(authority.pem.encode())
    assert root.not_valid_after_utc - root.not_valid_before_utc == dt.timedelta(days=30)
    found = leaf(authority, "index.test")
    assert found.not_valid_after_utc - found.not_valid_before_utc == dt.timedelta(hours=24)
    begun, context = now, authority.context("index.test")
    for hours, is_new in (
        (11, False),
        (13, True),
        (24, False),
        (26, True),
        (25, True),
    ):  # the last: a clock set back
        now = begun + dt.timedelta(hours=hours)
        before, context = context, authority.context("index.test")
        assert (context is not before) is is_new, hours
        found = leaf(authority, "index.test")
        assert (
            found.not_valid_before_utc
            < now
            < now + dt.timedelta(hours=12)
            < found.not_valid_after_utc
        )


def test_serial_numbers_and_authorities_differ_from_run_to_run():
    one, two = Authority(), Authority()
    assert one.pem != two.pem
    assert leaf(one, "a.test").serial_number != leaf(one, "b.test").serial_number
    with pytest.raises(InvalidSignature):
        leaf(one, "a.test").verify_directly_issued_by(
            x509.load_pem_x509_certificate(two.pem.encode())
        )


def test_a_context_is_made_once_for_each_host_and_quickly():
    authority = Authority()
    authority.context("warm.test")
    watch = Stopwatch()
    contexts = [authority.context(f"h{number}.test") for number in range(20)]
    each = watch.seconds() / 20
    assert each < 0.05, f"{each * 1000:.1f} ms a context"
    assert authority.context("h3.test") is contexts[3]


def test_contexts_take_tls_1_2_or_later_and_no_client_certificates():
    context = Authority().context("a.test")
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_NONE


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs files in memory (Linux)")
def test_no_key_is_ever_written_to_a_disk(tmp_path):
    """Every file that is opened for writing is seen by an audit hook.

    None but the one in memory is.
    """
    code = (
        "import sys\n"
        "from entrepot.server.certificates import Authority\n"
        "import ssl\n"
        "opened = []\n"
        "def hook(event, args):\n"
        "    if event == 'open' and (args[2] or 0) & 3: opened.append(args[0])\n"
        "sys.addaudithook(hook)\n"
        "authority = Authority()\n"
        "authority.context('a.test'); authority.context('127.0.0.1')\n"
        "print([name for name in opened if not isinstance(name, int)], authority.pem.count('BEGIN'), 'PRIVATE' in authority.pem)\n"
    )
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "TMPDIR": str(tmp_path),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[0] == "[] 1 False"
    assert list(tmp_path.iterdir()) == []


class Transport:
    """Takes what is written."""

    def __init__(self):
        self.sent = b""

    def write(self, data):
        self.sent += data


def misnamed_handshake(authority):
    """A client says a name that is no ASCII; why the handshake ended."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="index.test")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    hello = outgoing.read()
    assert hello.count(b"index.test") == 1
    reasons = []
    wire = TlsTransport(
        Transport(), authority.context("index.test"), pytest.fail, reasons.append, pytest.fail
    )
    wire.feed(hello.replace(b"index.test", b"i\xeedex.test"))
    return reasons


def test_a_server_name_that_is_no_ascii_is_refused_without_a_traceback(capsys):
    """What a broken client says first must not end up between the lines of the command."""
    authority, before = Authority(), sys.unraisablehook
    authority.prepare()
    assert len(misnamed_handshake(authority)) == 1
    assert capsys.readouterr().err == ""
    assert sys.unraisablehook is before


def test_other_troubles_that_nobody_can_catch_are_told_to_whom_they_are_told_at_any_time(
    monkeypatch,
):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)

    class Broken:
        def __del__(self):
            raise ZeroDivisionError

    with names_unheard(), names_unheard():
        del [Broken()][0]
    assert [trouble.exc_type for trouble in told] == [ZeroDivisionError]
    assert sys.unraisablehook == told.append


def test_a_hook_that_somebody_sets_meanwhile_stays(monkeypatch):
    def theirs(trouble):
        pass

    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    with names_unheard():
        sys.unraisablehook = theirs
    assert sys.unraisablehook is theirs
