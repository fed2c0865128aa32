"""The programs of docs/examples: what they send is signed as AWS checks it, with a role's token and with a query."""

from __future__ import annotations

import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from scripts.api_docs import PROGRAMS

KEY, SECRET, TOKEN, REGION = "AKIDEXAMPLE", "wJal/rXUt+nFEMI=", "IQoJb3/+==", "eu-central-1"
BODY = '{"source": "Zürich"}\n'.encode()
RUN = {"sh": ["sh"], "py": [sys.executable], "mjs": ["node"]}


class Checking(http.server.BaseHTTPRequestHandler):
    """Answers 200 to a request whose signature is the one that botocore computes for it, and 403 to others."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        authorization = self.headers["authorization"]
        names = authorization.partition("SignedHeaders=")[2].partition(",")[0].split(";")
        assert {"host", "x-amz-date"} <= set(names)
        headers = {name: self.headers[name] for name in names if name != "host"}
        request = AWSRequest("POST", f"http://{self.headers['host']}{self.path}", data=body, headers=headers)
        request.context["timestamp"] = self.headers["x-amz-date"]
        token = self.headers["x-amz-security-token"]
        signer = SigV4Auth(Credentials(KEY, SECRET, token), "execute-api", REGION)
        wanted = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
        right = authorization.endswith(f"Signature={wanted}") and body == BODY
        self.send_response(200 if right else 403)
        self.send_header("content-length", "3")
        self.end_headers()
        self.wfile.write(f"{token is not None:d}ok".encode())

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture
def server() -> Iterator[str]:
    found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Checking)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{found.server_port}"
    found.shutdown()
    found.server_close()


@pytest.mark.parametrize("token", ["", TOKEN])
@pytest.mark.parametrize("path", ["/dev/ingest?dry_run=true", "/restapis/a1/dev/_user_request_/ingest"])
@pytest.mark.parametrize("kind", RUN)
def test_it_is_signed(kind: str, path: str, token: str, server: str, tmp_path: Path) -> None:
    for program in (*RUN[kind], *(["curl"] if kind == "sh" else [])):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program} here")
    file = tmp_path / "event.json"
    file.write_bytes(BODY)
    given = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "INGEST_URL": server + path}
    given |= {"AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION}
    given |= {"AWS_SESSION_TOKEN": token} if token else {}
    env = {name: value for name, value in os.environ.items() if not name.lower().startswith(("aws_", "http_proxy"))}
    done = subprocess.run(
        [*RUN[kind], str(PROGRAMS / f"ingest.{kind}"), str(file)],
        env={**env, **given},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, f"{bool(token):d}ok"), done.stderr
    assert SECRET not in done.stdout + done.stderr
