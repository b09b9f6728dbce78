"""Where a binary comes from: KUBEBUILDER_ASSETS, the cache, an official build, Go modules; in this order."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from plimsoll.sandbox.binaries.official import UnavailableError, fetch, official_build
from plimsoll.sandbox.binaries.recipes import Module, Platform, modules_folder, read_module, this_platform
from plimsoll.sandbox.binaries.toolchain import build, find_go
from plimsoll.sandbox.errors import SandboxError
from plimsoll.sandbox.progress import Progress, Silent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kwok")


@dataclass(frozen=True, slots=True, kw_only=True)
class Binaries:
    """Where each program lies."""

    paths: Mapping[str, Path]

    def __getitem__(self, name: str) -> Path:
        return self.paths[name]


def control_plane_binaries(
    progress: Progress | None = None,
    *,
    names: Sequence[str] = CONTROL_PLANE,
    environment: Mapping[str, str] = os.environ,
) -> Binaries:
    """The programs of the control plane; what is missing is fetched or built.

    Raises:
        SandboxError: one can neither be found nor fetched nor built.
    """
    assets = _assets(names, environment)
    missing = [name for name in names if name not in assets]
    if not missing:
        return Binaries(paths=MappingProxyType(assets))
    module = read_module(modules_folder(environment) / "controlplane", this_platform())
    kept = _Cache(environment, progress or Silent()).fill(module, missing)
    return Binaries(paths=MappingProxyType({**kept, **assets}))


def tool_binaries(
    progress: Progress | None = None,
    *,
    names: Sequence[str] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Binaries:
    """The programs of hack/tools, which the tests of the chart and of GitOps need; all of them unless named.

    Raises:
        SandboxError: one can neither be found nor built.
    """
    module = read_module(modules_folder(environment) / "tools", this_platform())
    wanted = [binary.name for binary in module.binaries] if names is None else list(names)
    kept = _Cache(environment, progress or Silent()).fill(module, wanted)
    return Binaries(paths=MappingProxyType(kept))


def node_binaries(
    progress: Progress | None = None, *, environment: Mapping[str, str] = os.environ
) -> Binaries:
    """The programs of hack/node-tools, which a real node runs.

    Raises:
        SandboxError: one can neither be found nor built.
    """
    module = read_module(modules_folder(environment) / "node-tools", this_platform())
    kept = _Cache(environment, progress or Silent()).fill(module, [binary.name for binary in module.binaries])
    return Binaries(paths=MappingProxyType(kept))


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """PLIMSOLL_CACHE, else plimsoll in the user's cache folder."""
    named = environment.get("PLIMSOLL_CACHE")
    if named:
        return Path(named)
    xdg = environment.get("XDG_CACHE_HOME")
    return (Path(xdg) if xdg else Path.home() / ".cache") / "plimsoll"


def _assets(names: Sequence[str], environment: Mapping[str, str]) -> dict[str, Path]:
    named = environment.get("KUBEBUILDER_ASSETS")
    if not named:
        return {}
    folder = Path(named)
    if not folder.is_dir():
        raise SandboxError(
            f"KUBEBUILDER_ASSETS is {named!r}, which is no folder: set it to one with the control plane's "
            "binaries, or unset it."
        )
    return {name: folder / name for name in names if os.access(folder / name, os.X_OK)}


class _Cache:
    """The cache, one folder per module and version of it."""

    def __init__(self, environment: Mapping[str, str], progress: Progress) -> None:
        self._root = cache_folder(environment)
        self._environment = environment
        self._progress = progress
        self._machine: Platform = this_platform()
        self._unreachable: set[str] = set()

    def fill(self, module: Module, names: Sequence[str]) -> dict[str, Path]:
        """The paths of the programs; makes those that are not there yet."""
        folder = self._root / f"{module.name}-{module.digest}-{self._machine}"
        paths = {name: folder / module.binary(name).name for name in names}
        if all(path.is_file() for path in paths.values()):
            return paths
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(folder / ".lock", self._progress):
                self._make(module, folder, [name for name, path in paths.items() if not path.is_file()])
        except OSError as error:
            raise SandboxError(
                f"the cache {folder} cannot be written ({error.strerror or error}): set PLIMSOLL_CACHE to a folder "
                "that can, with 2 GB to spare."
            ) from error
        return paths

    def _make(self, module: Module, folder: Path, names: Sequence[str]) -> None:
        # On the same file system, so that a rename puts a whole file in its place.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as scratch:
            to_build = [name for name in names if not self._fetched(name, module, folder, Path(scratch))]
            if not to_build:
                return
            go = find_go(module.go_version, self._root, self._progress)
            for name in to_build:
                binary = module.binary(name)
                with self._progress.step(f"building {name}"):
                    built = build(binary, module, go, Path(scratch))
                built.replace(folder / name)

    def _fetched(self, name: str, module: Module, folder: Path, scratch: Path) -> bool:
        source = official_build(name, module, self._machine, self._environment)
        if source is None or urlsplit(source.url).netloc in self._unreachable:
            return False
        host = urlsplit(source.url).netloc
        try:
            with self._progress.step(f"downloading {name} from {host}"):
                fetch(source, scratch / name)
        except UnavailableError as error:
            self._unreachable.add(host)
            self._progress.say(f"no official build of {name} ({error}); it is built from Go modules instead")
            return False
        shutil.move(scratch / name, folder / name)
        return True


@contextmanager
def _locked(path: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock of a folder; another process that fills it is waited for."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with progress.step(f"waiting for another process that fills {path.parent}"):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield
