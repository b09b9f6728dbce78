"""Images without a registry: the pause image, made here; others, imported once for each version of their content."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from plimsoll.sandbox.binaries.recipes import this_platform
from plimsoll.sandbox.errors import SandboxError
from plimsoll.sandbox.realnode import layout

if TYPE_CHECKING:
    from collections.abc import Mapping

# A pod's first process: it reaps what is orphaned and waits for the signal that ends the pod.
_PAUSE: Final = """
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void end(int number) { (void)number; _exit(0); }
static void reap(int number) { (void)number; while (waitpid(-1, 0, WNOHANG) > 0) {} }

int main(void) {
  signal(SIGINT, end);
  signal(SIGTERM, end);
  signal(SIGCHLD, reap);
  for (;;) pause();
}
"""
_USER: Final = "65535:65535"


class Store(Protocol):
    """A node's image store."""

    def ctr(self, *arguments: str) -> str:
        """Run containerd's client."""
        ...


def ensure_pause_image(store: Store) -> None:
    """Make and import the pause image unless it is there.

    Raises:
        SandboxError: it cannot be compiled.
    """
    if layout.PAUSE_IMAGE in store.ctr("images", "list", "--quiet").split():
        return
    with tempfile.TemporaryDirectory(prefix="plimsoll-pause-") as scratch:
        archive = Path(scratch) / "pause.tar"
        archive.write_bytes(_archive(_compiled(Path(scratch))))
        store.ctr("images", "import", str(archive))


def _compiled(folder: Path) -> bytes:
    source, target = folder / "pause.c", folder / "pause"
    source.write_text(_PAUSE)
    command = ["gcc", "-Os", "-s", "-static", "-o", str(target), str(source)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise SandboxError("the pause image needs gcc; install it: apt-get install gcc libc6-dev.") from error
    if done.returncode != 0:
        raise SandboxError(f"the pause image's program cannot be compiled: {done.stderr.strip()}")
    return target.read_bytes()


def _archive(program: bytes) -> bytes:
    """An OCI image layout with one layer of one file, as a tar."""
    layer = _tar({"pause": program}, mode=0o755)
    config = {
        "architecture": this_platform().arch,
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "User": _USER},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        "history": [{"created_by": "plimsoll"}],
    }
    packed = gzip.compress(layer, mtime=0)
    config_blob = json.dumps(config).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _descriptor("application/vnd.oci.image.config.v1+json", config_blob),
        "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar+gzip", packed)],
    }
    manifest_blob = json.dumps(manifest).encode()
    index = {
        "schemaVersion": 2,
        "manifests": [
            {
                **_descriptor("application/vnd.oci.image.manifest.v1+json", manifest_blob),
                "annotations": {"io.containerd.image.name": layout.PAUSE_IMAGE},
            }
        ],
    }
    blobs = {f"blobs/sha256/{_digest(blob)[7:]}": blob for blob in (packed, config_blob, manifest_blob)}
    return _tar(
        {
            "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
            "index.json": json.dumps(index).encode(),
            **blobs,
        }
    )


def _descriptor(media_type: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob)}


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _tar(files: Mapping[str, bytes], mode: int = 0o644) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()
