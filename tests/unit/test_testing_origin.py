"""The tests' own origin, asked over a plain HTTP client.

What it says, what it writes down, and how it goes wrong.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import json
import socket
import ssl
import time
import zipfile
from urllib.parse import urlsplit

import pytest

from entrepot.testing import pages, profiles
from entrepot.testing.origin import Origin
from entrepot.testing.tls import TestAuthority


class Answer:
    def __init__(self, response: http.client.HTTPResponse, body: bytes) -> None:
        self.status, self.fields, self.body = response.status, response.headers, body


def ask(
    url: str, method: str = "GET", body=None, timeout: float = 10, context=None, **headers: str
) -> Answer:
    """One request over a connection of its own; field names have ``_`` for ``-``."""
    parts = urlsplit(url)
    make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    options = {"context": context} if context else {}
    connection = make(parts.netloc, timeout=timeout, **options)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    try:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(
            method,
            target,
            body=body,
            headers=fields,
            encode_chunked=not isinstance(body, bytes | None),
        )
        response = connection.getresponse()
        try:
            return Answer(response, response.read())
        finally:
            response.close()
    finally:
        connection.close()


@pytest.fixture
def wheel(origin: Origin):
    return origin.add_project("example", size=20_000)[0]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class TestPages:
    def test_json_is_given_to_who_prefers_it(self, origin: Origin, wheel):
        page = ask(f"{origin.index_url}example/", Accept=f"{pages.JSON}, text/html;q=0.1")
        assert page.fields["Content-Type"] == pages.JSON
        file = json.loads(page.body)["files"][0]
        assert (file["filename"], file["size"], file["hashes"]["sha256"]) == (
            wheel.filename,
            wheel.content.size,
            wheel.content.sha256,
        )

    def test_html_is_given_to_who_asks_for_nothing_special(self, origin: Origin, wheel):
        page = ask(f"{origin.index_url}example/")
        assert page.fields["Content-Type"] == "text/html; charset=utf-8"
        assert f"#sha256={wheel.content.sha256}".encode() in page.body

    def test_an_origin_without_json_gives_html(self, origin: Origin, wheel):
        origin.serves_json = False
        assert (
            ask(f"{origin.index_url}example/", Accept=pages.JSON)
            .fields["Content-Type"]
            .startswith("text/html")
        )

    def test_a_name_not_normalized_is_redirected(self, origin: Origin, wheel):
        answer = ask(f"{origin.index_url}Ex_ample/")
        assert (answer.status, answer.fields["Location"]) == (301, "/simple/ex-ample/")

    def test_an_unknown_project_is_404(self, origin: Origin):
        assert ask(f"{origin.index_url}nothing/").status == 404

    def test_the_metadata_file_has_the_digest_that_the_page_names(self, origin: Origin, wheel):
        page = json.loads(ask(f"{origin.index_url}example/", Accept=pages.JSON).body)
        assert (
            sha256(ask(f"{origin.url(wheel)}.metadata").body)
            == page["files"][0]["core-metadata"]["sha256"]
        )

    def test_without_metadata_neither_page_nor_path_has_it(self, origin: Origin, wheel):
        origin.serves_metadata = False
        page = json.loads(ask(f"{origin.index_url}example/", Accept=pages.JSON).body)
        assert page["files"][0]["core-metadata"] is False
        assert ask(f"{origin.url(wheel)}.metadata").status == 404

    def test_links_may_be_relative(self, origin: Origin, wheel):
        origin.relative_links = True
        assert f'href="{wheel.path}#'.encode() in ask(f"{origin.index_url}example/").body


class TestFiles:
    def test_a_wheel_is_a_whole_zip_archive(self, origin: Origin, wheel):
        archive = zipfile.ZipFile(io.BytesIO(ask(origin.url(wheel)).body))
        assert archive.testzip() is None
        assert len(archive.read("example/data.bin")) == 20_000

    def test_a_big_wheel_shares_its_memory_with_others(self, origin: Origin):
        first, second = (
            origin.add_project(name, size=20_000_000)[0].content for name in ("one", "two")
        )
        shared = {id(piece) for piece in first.pieces} & {id(piece) for piece in second.pieces}
        assert len(shared) >= 8
        assert first.sha256 != second.sha256

    def test_a_big_wheel_is_a_whole_zip_archive(self, origin: Origin):
        content = origin.add_project("big", size=5_000_000)[0].content
        assert zipfile.ZipFile(io.BytesIO(content.whole())).testzip() is None

    @pytest.mark.parametrize(
        ("asked", "start", "stop"),
        [
            ("bytes=0-9", 0, 10),
            ("bytes=100-", 100, None),
            ("bytes=-50", -50, None),
            ("bytes=5-5", 5, 6),
        ],
    )
    def test_a_range_is_answered(self, origin: Origin, wheel, asked, start, stop):
        answer = ask(origin.url(wheel), Range=asked)
        assert (answer.status, answer.body) == (206, wheel.content.whole()[start:stop])

    def test_a_range_past_the_end_is_416(self, origin: Origin, wheel):
        answer = ask(origin.url(wheel), Range="bytes=99999999-")
        assert (answer.status, answer.fields["Content-Range"]) == (
            416,
            f"bytes */{wheel.content.size}",
        )

    def test_if_range_with_another_tag_gives_the_whole(self, origin: Origin, wheel):
        assert ask(origin.url(wheel), Range="bytes=0-9", If_Range='"other"').status == 200
        assert (
            ask(origin.url(wheel), Range="bytes=0-9", If_Range=f'"{wheel.content.md5}"').status
            == 206
        )

    def test_head_has_the_length_and_no_body(self, origin: Origin, wheel):
        answer = ask(origin.url(wheel), "HEAD")
        assert (answer.fields["Content-Length"], answer.body) == (str(wheel.content.size), b"")

    @pytest.mark.parametrize("framing", ["chunked", "close"])
    def test_a_body_without_length_is_the_same(self, origin: Origin, wheel, framing):
        origin.framing = framing
        answer = ask(origin.url(wheel))
        assert "Content-Length" not in answer.fields
        assert sha256(answer.body) == wheel.content.sha256

    def test_a_redirect_goes_to_another_signed_address_each_time(self, origin: Origin, wheel):
        origin.redirect_files = True
        places = [ask(origin.url(wheel)).fields["Location"] for _ in range(2)]
        assert places[0] != places[1]
        assert sha256(ask(places[0]).body) == wheel.content.sha256
        assert ask(places[0].replace("signature=", "signature=0")).status == 403

    def test_a_signed_address_ends(self, origin: Origin, wheel):
        origin.redirect_files, origin.signed_s = True, -1
        assert ask(ask(origin.url(wheel)).fields["Location"]).status == 403


class TestFields:
    def test_a_page_that_was_not_changed_is_304(self, origin: Origin, wheel):
        tag = ask(f"{origin.index_url}example/").fields["ETag"]
        again = ask(f"{origin.index_url}example/", If_None_Match=f'"x", {tag}')
        assert (again.status, again.body) == (304, b"")
        assert origin.seen("example")[1].conditional

    def test_how_long_pages_are_fresh_can_change_while_it_runs(self, origin: Origin, wheel):
        origin.index_max_age = 1
        assert ask(f"{origin.index_url}example/").fields["Cache-Control"] == "max-age=1, public"

    @pytest.mark.parametrize("path", ["/simple/example/", "file"])
    def test_a_bare_origin_says_nothing_of_caching(self, origin: Origin, wheel, path):
        origin.profile = profiles.bare
        fields = ask(origin.base + (wheel.path if path == "file" else path)).fields
        assert not {"Cache-Control", "ETag", "Last-Modified", "Expires", "Vary"} & set(fields)

    @pytest.mark.parametrize(
        ("profile", "said"),
        [
            (profiles.no_store, "no-store"),
            (profiles.must_revalidate, "max-age=600, must-revalidate"),
        ],
    )
    def test_a_profile_decides_for_pages_and_files(self, origin: Origin, wheel, profile, said):
        origin.profile = profile
        for url in (f"{origin.index_url}example/", origin.url(wheel)):
            assert ask(url).fields["Cache-Control"] == said

    def test_a_profile_may_be_any_function(self, origin: Origin, wheel):
        origin.profile = lambda resource: {"Expires": "0", "X-Kind": resource.kind}
        assert ask(origin.url(wheel)).fields["X-Kind"] == "file"


class TestCredentials:
    def test_a_realm_wants_its_user_and_password(self, origin: Origin, wheel):
        origin.protect("me", "secret", prefix="/simple/", realm="pages")
        answer = ask(f"{origin.index_url}example/")
        assert (answer.status, answer.fields["WWW-Authenticate"]) == (401, 'Basic realm="pages"')
        right = "Basic " + base64.b64encode(b"me:secret").decode()
        assert ask(f"{origin.index_url}example/", Authorization=right).status == 200
        assert ask(origin.url(wheel)).status == 200


class TestFaults:
    def test_a_status_comes_as_often_as_asked(self, origin: Origin, wheel):
        origin.fault("whl$", "status", times=2, value=503)
        assert [ask(origin.url(wheel)).status for _ in range(3)] == [503, 503, 200]

    def test_a_fault_may_let_some_requests_pass_first(self, origin: Origin, wheel):
        fault = origin.fault("whl$", "status", skip=1)
        assert [ask(origin.url(wheel)).status for _ in range(3)] == [200, 500, 200]
        assert fault.hits == 1

    def test_a_truncated_body_is_shorter_than_announced(self, origin: Origin, wheel):
        origin.fault("whl$", "truncate", at=0.5)
        with pytest.raises(http.client.IncompleteRead) as caught:
            ask(origin.url(wheel))
        assert len(caught.value.partial) == wheel.content.size // 2

    def test_a_truncated_chunked_body_has_no_end(self, origin: Origin, wheel):
        origin.framing = "chunked"
        origin.fault("whl$", "truncate")
        with pytest.raises(http.client.IncompleteRead):
            ask(origin.url(wheel))

    def test_a_short_body_looks_well(self, origin: Origin, wheel):
        origin.fault("whl$", "short", at=0.5)
        assert len(ask(origin.url(wheel)).body) == wheel.content.size // 2

    def test_a_corrupt_body_differs_in_one_byte(self, origin: Origin, wheel):
        origin.fault("whl$", "corrupt")
        body, right = ask(origin.url(wheel)).body, wheel.content.whole()
        assert [i for i in range(len(right)) if body[i] != right[i]] == [len(right) // 2]

    @pytest.mark.parametrize("at", [0, 0.5])
    def test_a_reset_is_a_reset(self, origin: Origin, wheel, at):
        origin.fault("whl$", "reset", at=at)
        with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
            ask(origin.url(wheel))
        assert origin.log[0].ended is None

    @pytest.mark.parametrize("kind", ["stall", "silence"])
    def test_a_stalled_answer_does_not_end(self, origin: Origin, wheel, kind):
        origin.fault("whl$", kind)
        with pytest.raises(TimeoutError):
            ask(origin.url(wheel), timeout=0.2)

    def test_a_slow_body_takes_its_time(self, origin: Origin, wheel):
        origin.fault("whl$", "slow", value=100_000)
        start = time.monotonic()
        ask(origin.url(wheel))
        assert time.monotonic() - start > 0.1

    def test_garbage_is_no_http(self, origin: Origin, wheel):
        origin.fault("whl$", "garbage")
        with pytest.raises(http.client.BadStatusLine):
            ask(origin.url(wheel))

    def test_a_page_names_wrong_digests_once(self, origin: Origin, wheel):
        origin.fault("/simple/example/", "wronghash")
        bodies = [ask(f"{origin.index_url}example/").body for _ in range(2)]
        assert [pages.WRONG.encode() in body for body in bodies] == [True, False]

    def test_validators_can_be_left_out(self, origin: Origin, wheel):
        origin.fault("whl$", "novalidators")
        assert "ETag" not in ask(origin.url(wheel)).fields

    def test_an_unknown_kind_is_refused(self, origin: Origin):
        with pytest.raises(ValueError, match="explode"):
            origin.fault("", "explode")


class TestLife:
    def test_it_goes_away_and_comes_back_on_the_same_port(self, origin: Origin, wheel):
        url = origin.url(wheel)
        with socket.create_connection((origin.host, origin.port)) as held:
            held.sendall(b"HEAD /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
            while not held.recv(4096).endswith(b"\r\n\r\n"):
                pass
            origin.stop()
            assert held.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            ask(url)
        origin.start()
        assert ask(url).status == 200

    def test_files_may_come_from_a_second_address(self):
        with Origin(files_host="127.0.0.1") as origin:
            file = origin.add_project("example")[0]
            assert urlsplit(origin.url(file)).port != origin.port
            assert ask(origin.url(file)).status == 200
            assert origin.log[0].listener == "files"

    def test_made_up_names_stand_in_links_and_can_be_resolved(self):
        with Origin(
            name="index.test", files_name="files.test", files_host="127.0.0.1", tls=True
        ) as origin:
            assert origin.index_url == "https://index.test/simple/"
            assert origin.files_base == "https://files.test"
            index, files = origin.resolve.split(",")
            assert index == f"index.test:443=127.0.0.1:{origin.port}"
            assert files.startswith("files.test:443=127.0.0.1:")

    def test_the_log_tells_connections_and_bytes(self, origin: Origin, wheel):
        ask(origin.url(wheel))
        ask(f"{origin.base}/nothing")
        assert [seen.connection for seen in origin.log] == [1, 2]
        assert origin.bytes_sent("whl$") == wheel.content.size
        assert (origin.count(), origin.count(status=404), origin.count("whl$", method="GET")) == (
            2,
            1,
            1,
        )
        origin.reset()
        assert origin.count() == 0

    def test_one_connection_carries_many_requests(self, origin: Origin, wheel):
        connection = http.client.HTTPConnection(origin.address)
        for _ in range(2):
            connection.request("GET", wheel.path)
            connection.getresponse().read()
        connection.close()
        assert [seen.connection for seen in origin.log] == [1, 1]

    def test_latency_comes_before_each_answer(self, origin: Origin, wheel):
        origin.latency = 0.1
        start = time.monotonic()
        ask(origin.url(wheel))
        assert time.monotonic() - start >= 0.1

    def test_bandwidth_is_what_bodies_get(self, origin: Origin, wheel):
        origin.link.rate = 100_000
        start = time.monotonic()
        ask(origin.url(wheel))
        assert time.monotonic() - start >= 0.1


class TestTls:
    def test_certificates_pass_the_strict_checks(self, origin_tls: Origin):
        context = ssl.create_default_context(cafile=str(origin_tls.ca_file))
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        assert ask(f"{origin_tls.base}/simple/", context=context).status == 200

    def test_who_does_not_trust_the_authority_gets_nothing(self, origin_tls: Origin):
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(f"{origin_tls.base}/simple/", context=ssl.create_default_context())
        assert origin_tls.count() == 0

    def test_two_origins_may_share_an_authority(self):
        authority = TestAuthority()
        with (
            Origin(authority=authority) as one,
            Origin(authority=authority, name="index.test") as two,
        ):
            context = authority.client_context()
            assert ask(f"{one.base}/simple/", context=context).status == 200
            with (
                socket.create_connection((two.host, two.port)) as plain,
                context.wrap_socket(plain, server_hostname="index.test") as wrapped,
            ):
                assert wrapped.version() == "TLSv1.3"

    @pytest.mark.parametrize("name", ["other.test", "127.0.0.9"])
    def test_a_certificate_may_hold_more_names(self, name):
        with Origin(tls=True, names=[name]) as origin:
            context = origin.authority.client_context()
            with (
                socket.create_connection((origin.host, origin.port)) as plain,
                context.wrap_socket(plain, server_hostname=name) as wrapped,
            ):
                assert wrapped.getpeercert()["subjectAltName"]

    @pytest.mark.parametrize("framing", ["length", "close"])
    def test_a_body_ends_properly_inside_tls(self, origin_tls: Origin, framing):
        origin_tls.framing = framing
        file = origin_tls.add_project("example")[0]
        context = origin_tls.authority.client_context()
        assert sha256(ask(origin_tls.url(file), context=context).body) == file.content.sha256


class TestOtherTraffic:
    def test_an_upgraded_connection_echoes(self, origin: Origin):
        with socket.create_connection((origin.host, origin.port)) as sock:
            sock.sendall(
                b"GET /echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly"
            )
            received = b""
            while not received.endswith(b"early"):
                received += sock.recv(4096)
            assert received.startswith(b"HTTP/1.1 101 ")
            sock.sendall(b"\x00late")
            assert sock.recv(4096) == b"\x00late"

    def test_a_stream_comes_line_by_line(self, origin: Origin):
        with socket.create_connection((origin.host, origin.port), timeout=5) as sock:
            sock.sendall(b"GET /stream?lines=2&interval=0.2 HTTP/1.1\r\nHost: x\r\n\r\n")
            received = b""
            while b"line 0" not in received:
                received += sock.recv(4096)
            assert b"line 1" not in received

    @pytest.mark.parametrize(
        "body", [b"x" * 300_000, [b"x" * 100_000] * 3], ids=["length", "chunked"]
    )
    def test_an_upload_is_counted_and_hashed(self, origin: Origin, body):
        fields = {} if isinstance(body, bytes) else {"Transfer_Encoding": "chunked"}
        answer = json.loads(
            ask(
                f"{origin.base}/upload",
                "PUT",
                body if isinstance(body, bytes) else iter(body),
                **fields,
            ).body
        )
        assert answer == {"method": "PUT", "sha256": sha256(b"x" * 300_000), "bytes": 300_000}
