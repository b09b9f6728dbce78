"""The official builds of Kubernetes and etcd, each held against the checksum that its project publishes."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import tarfile
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from plimsoll.sandbox.errors import SandboxError

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from plimsoll.sandbox.binaries.recipes import Module, Platform

KUBERNETES_URL: Final = "https://dl.k8s.io/release"
ETCD_URL: Final = "https://github.com/etcd-io/etcd/releases/download"
# Mirrors, and the tests' server.
KUBERNETES_URL_VARIABLE: Final = "PLIMSOLL_KUBERNETES_DOWNLOADS"
ETCD_URL_VARIABLE: Final = "PLIMSOLL_ETCD_DOWNLOADS"

_SERVER_BINARIES: Final = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
_TIMEOUT_SECONDS: Final = 4.0
_CHUNK_BYTES: Final = 2**20
_SHA256: Final = re.compile(r"\b[0-9a-f]{64}\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class OfficialBuild:
    """Where a build and its checksum are.

    Attributes:
        checksum_url: a file with the digest, or with a line `<digest>  <file name>`.
        member: the program's path, where the build is an archive.
    """

    url: str
    checksum_url: str
    member: str | None = None


class UnavailableError(Exception):
    """There is no such build, or its host does not answer: build it instead."""


def official_build(
    name: str, module: Module, machine: Platform, environment: Mapping[str, str] = os.environ
) -> OfficialBuild | None:
    """Where the official build of a program is; None where its project publishes none with a checksum."""
    if name == "kubectl" or (name in _SERVER_BINARIES and machine.os == "linux"):
        base = environment.get(KUBERNETES_URL_VARIABLE, KUBERNETES_URL).rstrip("/")
        version = module.versions["k8s.io/kubernetes"]
        url = f"{base}/{version}/bin/{machine.os}/{machine.arch}/{name}"
        return OfficialBuild(url=url, checksum_url=f"{url}.sha256")
    if name == "etcd" and machine.os == "linux":
        base = environment.get(ETCD_URL_VARIABLE, ETCD_URL).rstrip("/")
        version = module.versions["go.etcd.io/etcd/server/v3"]
        stem = f"etcd-{version}-{machine}"
        return OfficialBuild(
            url=f"{base}/{version}/{stem}.tar.gz",
            checksum_url=f"{base}/{version}/SHA256SUMS",
            member=f"{stem}/etcd",
        )
    return None


def fetch(build: OfficialBuild, target: Path) -> None:
    """Download a build to `target`, executable, after its checksum was found right.

    Raises:
        UnavailableError: the host does not answer, or has no such file.
        SandboxError: the checksum is wrong.
    """
    wanted = _published_digest(build)
    archive = target.with_name(f"{target.name}.download")
    digest = hashlib.sha256()
    with _opened(build.url) as response, archive.open("wb") as file:
        while chunk := response.read(_CHUNK_BYTES):
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != wanted:
        archive.unlink()
        raise SandboxError(
            f"{build.url} has the SHA-256 {digest.hexdigest()}, but its project publishes {wanted}: it was not "
            "used. Look at the mirror, or take the path to Go (no official builds) by making it unreachable."
        )
    if build.member is not None:
        _extract(archive, build.member, build.url)
    archive.chmod(0o755)
    archive.replace(target)


def _published_digest(build: OfficialBuild) -> str:
    with _opened(build.checksum_url) as response:
        text = response.read(_CHUNK_BYTES).decode("utf-8", "replace")
    file_name = build.url.rsplit("/", 1)[1]
    lines = text.splitlines()
    # A single digest stands alone; a list names the file of each.
    named = [line for line in lines if line.split()[1:] and line.split()[-1].lstrip("*") == file_name]
    found = _SHA256.search("\n".join(named) if named else text) if named or len(lines) == 1 else None
    if found is None:
        raise UnavailableError(f"{build.checksum_url} names no checksum for {file_name}")
    return found[0]


def _extract(archive: Path, member: str, url: str) -> None:
    try:
        with tarfile.open(archive) as tar:
            content = tar.extractfile(member)
            data = content.read() if content is not None else None
    except (KeyError, tarfile.TarError, OSError, EOFError) as error:
        raise SandboxError(
            f"{url} does not hold {member} ({error}); remove the mirror or repair it."
        ) from error
    if data is None:
        raise SandboxError(f"{url} holds no file {member}; remove the mirror or repair it.")
    archive.write_bytes(data)


@contextmanager
def _opened(url: str) -> Iterator[http.client.HTTPResponse | io.BufferedIOBase]:
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise UnavailableError(f"{url} is no http or https address")
    request = urllib.request.Request(url, headers={"User-Agent": "plimsoll"})  # noqa: S310 - http(s) only, above
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310
            yield response
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise UnavailableError(f"{url}: {getattr(error, 'reason', error)}") from error
