"""kubectl against one kubeconfig: what it prints is what a user sees."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from plimsoll.sandbox.errors import SandboxError
from plimsoll.sandbox.processes import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

_TIMEOUT_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a command ended; warnings of admission stand in `stderr`."""

    status: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        """Whether it ended with 0."""
        return self.status == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubectl:
    """The program and the kubeconfig that it is given; `cache` keeps its discovery away from the user's own."""

    binary: Path
    kubeconfig: Path
    cache: Path

    def __call__(self, *arguments: str, stdin: str | None = None, check: bool = True) -> Outcome:
        """Run one command.

        Raises:
            SandboxError: it failed, and `check` is set; what it printed is quoted.
        """
        try:
            done = subprocess.run(
                [self.binary, f"--kubeconfig={self.kubeconfig}", f"--cache-dir={self.cache}", *arguments],
                input=stdin,
                capture_output=True,
                text=True,
                check=False,
                timeout=_TIMEOUT_SECONDS,
                # A user's own KUBECONFIG, or a proxy to the outside, has no say here.
                env={
                    **os.environ,
                    "KUBECONFIG": str(self.kubeconfig),
                    "NO_PROXY": LOOPBACK,
                    "no_proxy": LOOPBACK,
                },
                process_group=0,
            )
        except subprocess.TimeoutExpired as error:
            raise SandboxError(
                f"kubectl {' '.join(arguments)} did not end in {_TIMEOUT_SECONDS:.0f} s"
            ) from error
        if check and done.returncode != 0:
            raise SandboxError(f"kubectl {' '.join(arguments)} failed: {done.stderr.strip()}")
        return Outcome(status=done.returncode, stdout=done.stdout, stderr=done.stderr)

    def apply(self, documents: Iterable[Mapping[str, Any]], *arguments: str, check: bool = True) -> Outcome:
        """Server-side apply of some objects."""
        flags = ("--server-side", "--force-conflicts", "-f", "-", *arguments)
        return self("apply", *flags, stdin=_stream(documents), check=check)

    def create(self, documents: Iterable[Mapping[str, Any]]) -> Outcome:
        """Create some objects that are not there yet."""
        return self("create", "-f", "-", stdin=_stream(documents))

    def get(self, *arguments: str) -> Any:
        """`kubectl get ... -o json`, parsed."""
        return json.loads(self("get", *arguments, "-o", "json").stdout)

    def items(self, kinds: str, *arguments: str) -> Sequence[dict[str, Any]]:
        """The objects of some kinds ("pods,jobs"), of all namespaces unless -n is given."""
        where = arguments if any(argument in ("-n", "-A") for argument in arguments) else (*arguments, "-A")
        return tuple(self.get(kinds, *where)["items"])

    def exists(self, kind: str, name: str, *arguments: str) -> bool:
        """Whether an object is there."""
        return bool(self("get", kind, name, *arguments, "--ignore-not-found", "-o", "name").stdout.strip())


def _stream(documents: Iterable[Mapping[str, Any]]) -> str:
    # JSON: YAML 1.1 and 1.2 differ in what is a boolean.
    return "\n---\n".join(json.dumps(document) for document in documents)
