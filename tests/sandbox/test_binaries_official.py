"""Official builds are used only when their published checksum is right."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from plimsoll.sandbox.binaries.official import (
    ETCD_URL_VARIABLE,
    KUBERNETES_URL_VARIABLE,
    OfficialBuild,
    UnavailableError,
    fetch,
    official_build,
)
from plimsoll.sandbox.binaries.recipes import Platform, read_module
from plimsoll.sandbox.errors import SandboxError
from plimsoll.sandbox.processes import free_ports

HACK = Path(__file__).parents[2] / "hack"
LINUX = Platform(os="linux", arch="amd64")
PROGRAM = b"#!/bin/sh\necho real\n"


class Mirror:
    """A server of files on loopback."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = mirror.files.get(self.path)
                self.send_response(404 if body is None else 200)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def publish(self, path: str, content: bytes, checksum: str | None = None) -> OfficialBuild:
        self.files[path] = content
        self.files[f"{path}.sha256"] = (checksum or hashlib.sha256(content).hexdigest()).encode()
        return OfficialBuild(url=f"{self.url}{path}", checksum_url=f"{self.url}{path}.sha256")


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    mirror = Mirror()
    thread = threading.Thread(target=mirror.server.serve_forever)
    thread.start()
    yield mirror
    mirror.server.shutdown()
    thread.join()
    mirror.server.server_close()


def test_a_build_with_the_right_checksum_becomes_executable(mirror: Mirror, tmp_path: Path) -> None:
    fetch(mirror.publish("/kubectl", PROGRAM), tmp_path / "kubectl")

    assert (tmp_path / "kubectl").read_bytes() == PROGRAM
    assert (tmp_path / "kubectl").stat().st_mode & 0o777 == 0o755


def test_a_build_with_a_wrong_checksum_is_not_used(mirror: Mirror, tmp_path: Path) -> None:
    build = mirror.publish("/kubectl", PROGRAM, checksum="0" * 64)

    with pytest.raises(SandboxError, match="its project publishes 0000"):
        fetch(build, tmp_path / "kubectl")
    assert list(tmp_path.iterdir()) == []


def test_a_build_without_a_published_checksum_is_not_used(mirror: Mirror, tmp_path: Path) -> None:
    build = mirror.publish("/kubectl", PROGRAM)
    del mirror.files["/kubectl.sha256"]

    with pytest.raises(UnavailableError, match=r"404|Not Found"):
        fetch(build, tmp_path / "kubectl")
    assert list(tmp_path.iterdir()) == []


def test_a_host_that_does_not_answer_is_told_as_unavailable(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}/kubectl"

    with pytest.raises(UnavailableError, match="refused"):
        fetch(OfficialBuild(url=url, checksum_url=f"{url}.sha256"), tmp_path / "kubectl")


def test_etcd_is_taken_out_of_its_archive(mirror: Mirror, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        info = tarfile.TarInfo("etcd-v3/etcd")
        info.size = len(PROGRAM)
        tar.addfile(info, io.BytesIO(PROGRAM))
    archive = buffer.getvalue()
    mirror.files["/etcd-v3.tar.gz"] = archive
    listed = f"{'1' * 64}  other.tar.gz\n{hashlib.sha256(archive).hexdigest()}  etcd-v3.tar.gz\n"
    mirror.files["/SHA256SUMS"] = listed.encode()
    build = OfficialBuild(
        url=f"{mirror.url}/etcd-v3.tar.gz", checksum_url=f"{mirror.url}/SHA256SUMS", member="etcd-v3/etcd"
    )

    fetch(build, tmp_path / "etcd")

    assert (tmp_path / "etcd").read_bytes() == PROGRAM


def test_a_list_of_checksums_that_does_not_name_the_file_proves_nothing(
    mirror: Mirror, tmp_path: Path
) -> None:
    build = mirror.publish("/kubectl", PROGRAM)
    digest = hashlib.sha256(PROGRAM).hexdigest()
    mirror.files["/kubectl.sha256"] = f"{digest}  other\n{digest}  another\n".encode()

    with pytest.raises(UnavailableError, match="names no checksum for kubectl"):
        fetch(build, tmp_path / "kubectl")


@pytest.mark.parametrize(
    ("name", "machine", "url"),
    [
        ("kube-apiserver", LINUX, "https://mirror.test/k/v1.36.3/bin/linux/amd64/kube-apiserver"),
        (
            "kubectl",
            Platform(os="darwin", arch="arm64"),
            "https://mirror.test/k/v1.36.3/bin/darwin/arm64/kubectl",
        ),
        ("kube-apiserver", Platform(os="darwin", arch="arm64"), None),
        ("etcd", LINUX, "https://mirror.test/e/v3.6.8/etcd-v3.6.8-linux-amd64.tar.gz"),
        ("kwok", LINUX, None),
    ],
    ids=["server on linux", "kubectl on macOS", "no server for macOS", "etcd", "kwok has no checksums"],
)
def test_where_the_official_build_is(name: str, machine: Platform, url: str | None) -> None:
    environment = {
        KUBERNETES_URL_VARIABLE: "https://mirror.test/k/",
        ETCD_URL_VARIABLE: "https://mirror.test/e",
    }

    build = official_build(name, read_module(HACK / "controlplane", machine), machine, environment)

    assert url == (build.url if build is not None else None)
