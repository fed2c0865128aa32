"""A company's own certificates are trusted on every path to AWS, not on boto3's alone; tried against a server."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pik.aws import signed
from pik.aws.objects import Objects
from pik.environments import Environment
from pik.errors import AwsError
from pik.producer.delivery import Delivery, Retries


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self._send(b'{"status": "ACCEPTED"}', "application/json")

    def do_GET(self) -> None:
        self._send(b"bytes", "text/plain")

    def _send(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Fri, 27 Nov 2026 08:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


def _made(name: str, issuer: str, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey) -> bytes:
    """A certificate, valid for a day: of the authority itself, or of the server that it vouches for."""
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one)]) for one in (name, issuer)]
    now = datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(names[1], names[0], key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=key is signer, path_length=None), critical=True)
        .sign(signer, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


def _certificates(folder: Path) -> tuple[Path, Path]:
    """The file that a company hands out, and the server's certificate with its key."""
    authority, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    bundle, chain = folder / "bundle.pem", folder / "server.pem"
    bundle.write_bytes(_made("a company", "a company", authority, authority))
    secret = own.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    chain.write_bytes(_made("its proxy", "a company", own, authority) + secret)
    return bundle, chain


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """An HTTPS server on the loopback interface, and the file that makes its certificate trusted."""
    bundle, chain = _certificates(tmp_path_factory.mktemp("tls"))
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as http:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        http.socket = context.wrap_socket(http.socket, server_side=True)
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"https://127.0.0.1:{http.server_address[1]}", bundle
        http.shutdown()


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Environment:
    """A real environment, reached with keys of the shell."""
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("NO_PROXY", "*")
    return Environment("dev", region="eu-west-1")


def _bundle(how: str, bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if how == "profile":
        (tmp_path / "config").write_text(f"[default]\nca_bundle = {bundle}\n")
    else:
        monkeypatch.setenv(how, str(bundle))


@pytest.mark.parametrize("how", ["AWS_CA_BUNDLE", "profile", "REQUESTS_CA_BUNDLE"])
def test_signed_requests_and_delivery_trust_what_boto3_trusts(
    how: str, server: tuple[str, Path], env: Environment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url, bundle = server
    _bundle(how, bundle, monkeypatch, tmp_path)
    assert signed.request(env, "POST", f"{url}/dev/ingest").status_code == 200
    delivery = Delivery(env, f"{url}/dev/ingest", connections=1, retries=Retries(attempts=1))
    assert delivery.deliver(b"{}").result == "ACCEPTED"
    delivery.close()


def test_raw_objects_are_read_with_the_same_certificates(
    server: tuple[str, Path], env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, bundle = server
    s3 = env.session.client("s3", endpoint_url=url)
    monkeypatch.setattr(Environment, "client", lambda *_: s3)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    found = Objects(env, "raw").get("raw/a")
    assert found is not None
    assert found.body == b"bytes"


def test_without_it_the_certificate_is_refused(server: tuple[str, Path], env: Environment) -> None:
    with pytest.raises(AwsError, match="no answer") as raised:
        signed.request(env, "POST", f"{server[0]}/dev/ingest")
    assert "CERTIFICATE_VERIFY_FAILED" in raised.value.reason


def test_a_bundle_that_is_not_there_is_a_sentence(env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/typo.pem")
    with pytest.raises(AwsError, match="there is no file of certificates"):
        signed.request(env, "POST", "https://127.0.0.1:1/dev/ingest")
    local = Environment("local", region="us-east-1", endpoint="http://127.0.0.1:1")
    assert local.ca_bundle == ""
