"""What each binary is made of: the Go module that pins it, and its official build where there is one."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from plimsoll.sandbox.errors import SandboxError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Changed when the same sources have to be built again in another way.
_RECIPE: Final = "1"
_TOOL: Final = re.compile(r"^(?:tool\s+|\t)(\S+)$", re.MULTILINE)
_REQUIRE: Final = re.compile(r"^(?:require\s+|\t)(\S+) (v\S+)", re.MULTILINE)
_GO: Final = re.compile(r"^go (\d+)\.(\d+)", re.MULTILINE)
_MAJOR_SUFFIX: Final = re.compile(r"v\d+")
# `go install` names a binary after its folder; etcd's lies in server/.
_INSTALLED_AS: Final = MappingProxyType({"go.etcd.io/etcd/server/v3": "etcd"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """The machine in Go's words."""

    os: str
    arch: str

    def __str__(self) -> str:
        return f"{self.os}-{self.arch}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary:
    """One program of a module.

    Attributes:
        name: its name in the cache.
        package: what `go install` is given.
        built_as: what `go install` calls the result.
    """

    name: str
    package: str
    built_as: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A Go module whose programs are needed: hack/controlplane, hack/tools or hack/node-tools.

    Attributes:
        go_version: the least Go that builds it.
        versions: of what it requires, by module path.
        digest: over the sources and the way of building; names the folder in the cache.
    """

    name: str
    folder: Path
    go_version: tuple[int, int]
    versions: Mapping[str, str]
    linker_flags: str
    binaries: tuple[Binary, ...]
    digest: str

    def binary(self, name: str) -> Binary:
        """The program of that name.

        Raises:
            SandboxError: the module makes none.
        """
        for binary in self.binaries:
            if binary.name == name:
                return binary
        made = ", ".join(binary.name for binary in self.binaries)
        raise SandboxError(f"the module {self.name} makes no binary {name!r}; it makes {made}.")


def this_platform() -> Platform:
    """The platform of this machine."""
    machine = platform.machine().lower()
    arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
    return Platform(os="darwin" if sys.platform == "darwin" else "linux", arch=arch)


def modules_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder with the module files: PLIMSOLL_MODULES, else hack/ of the checkout that this package lies in.

    Raises:
        SandboxError: the package is installed without its checkout, and the variable is not set.
    """
    named = environment.get("PLIMSOLL_MODULES")
    folder = Path(named) if named else Path(__file__).resolve().parents[4] / "hack"
    if not (folder / "controlplane" / "go.mod").is_file():
        raise SandboxError(
            f"there is no controlplane/go.mod under {folder}, so the control plane cannot be built: set "
            "PLIMSOLL_MODULES to the hack folder of a checkout of Plimsoll, or KUBEBUILDER_ASSETS to a folder "
            "with etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubectl and kwok."
        )
    return folder


def read_module(folder: Path, machine: Platform) -> Module:
    """Read a module's go.mod, and find its own programs beside those of the `tool` directive.

    Raises:
        SandboxError: go.mod is not there or names no Go version.
    """
    try:
        text = (folder / "go.mod").read_text()
    except OSError as error:
        raise SandboxError(f"{folder / 'go.mod'} cannot be read ({error.strerror}).") from error
    go = _GO.search(text)
    if go is None:
        raise SandboxError(f"{folder / 'go.mod'} has no line `go X.Y`; add the version of Go that builds it.")
    versions = MappingProxyType(dict(_REQUIRE.findall(text)))
    flags = _linker_flags(versions)
    return Module(
        name=folder.name,
        folder=folder,
        go_version=(int(go[1]), int(go[2])),
        versions=versions,
        linker_flags=flags,
        binaries=(*_tools(text), *_own_programs(folder)),
        digest=_digest(folder, flags, machine),
    )


def _tools(go_mod: str) -> tuple[Binary, ...]:
    blocks = re.findall(r"^tool \((.*?)^\)", go_mod, flags=re.MULTILINE | re.DOTALL)
    single = re.findall(r"^tool ([^(\s]+)$", go_mod, flags=re.MULTILINE)
    packages = [package for block in blocks for package in _TOOL.findall(block)]
    return tuple(_binary(package) for package in [*packages, *single])


def _binary(package: str) -> Binary:
    parts = package.split("/")
    if _MAJOR_SUFFIX.fullmatch(parts[-1]):
        parts.pop()
    return Binary(name=_INSTALLED_AS.get(package, parts[-1]), package=package, built_as=parts[-1])


def _own_programs(folder: Path) -> tuple[Binary, ...]:
    names = sorted(path.parent.name for path in folder.glob("*/main.go"))
    return tuple(Binary(name=name, package=f"./{name}", built_as=name) for name in names)


def _linker_flags(versions: Mapping[str, str]) -> str:
    kubernetes = versions.get("k8s.io/kubernetes")
    if kubernetes is None:
        return "-s -w"
    # Without them the version is a template string that clients cannot parse.
    major, minor = kubernetes.removeprefix("v").split(".")[:2]
    values = {"gitVersion": kubernetes, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    package = "k8s.io/component-base/version"
    return " ".join(["-s", "-w", *(f"-X {package}.{name}={value}" for name, value in values.items())])


def _digest(folder: Path, flags: str, machine: Platform) -> str:
    digest = hashlib.sha256(f"{_RECIPE}\n{flags}\n{machine}\n".encode())
    for path in sorted([folder / "go.mod", folder / "go.sum", *folder.glob("*/*.go")]):
        if path.is_file():
            digest.update(f"{path.relative_to(folder)}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
