"""What the tests on a real node talk to: the node that they start themselves, or a cluster that the user named."""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from plimsoll.sandbox.binaries import control_plane_binaries
from plimsoll.sandbox.kubectl import Kubectl
from plimsoll.sandbox.processes import Child, wait_until
from plimsoll.sandbox.session import NAMESPACE, Sandbox

_HUB_SECONDS = 60.0
_RELEASE = "plimsoll"


class Stand(Protocol):
    """A cluster with the operator and the webhook, and the Hub stand-in that its pods reach."""

    @property
    def kubectl(self) -> Kubectl:
        """As an administrator."""
        ...

    @property
    def hub_log(self) -> Path:
        """What the Hub stand-in printed."""
        ...

    def check(self) -> None:
        """Hold that every process of ours runs."""
        ...

    def logs(self) -> Mapping[str, str]:
        """The logs of everything that is no pod of a ModelDeployment."""
        ...

    def metrics(self) -> str:
        """The operator's own metrics."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnNode:
    """The node that the tests start; the operator and the webhook are processes beside it."""

    sandbox: Sandbox

    @property
    def kubectl(self) -> Kubectl:
        return self.sandbox.kubectl

    @property
    def hub_log(self) -> Path:
        return self.sandbox.folder / "hub.log"

    def check(self) -> None:
        self.sandbox.check()

    def logs(self) -> Mapping[str, str]:
        return {path.name: path.read_text("utf-8", "replace") for path in self.sandbox.folder.glob("*.log")}

    def metrics(self) -> str:
        with urllib.request.urlopen(self.sandbox.metrics_url, timeout=10) as answer:
            return str(answer.read().decode())


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenCluster:
    """A cluster with the chart installed; the Hub stand-in is a process of this machine."""

    kubectl: Kubectl
    hub: Child

    @property
    def hub_log(self) -> Path:
        return self.hub.log

    def check(self) -> None:
        self.hub.check()

    def logs(self) -> Mapping[str, str]:
        found = {"hub.log": self.hub.log.read_text("utf-8", "replace")}
        for pod in self.kubectl.items("pods", "-n", NAMESPACE):
            name = pod["metadata"]["name"]
            found[name] = self.kubectl("logs", name, "-n", NAMESPACE).stdout
        return found

    def metrics(self) -> str:
        service = f"/api/v1/namespaces/{NAMESPACE}/services/{_RELEASE}-metrics:metrics/proxy/metrics"
        return self.kubectl("get", "--raw", service).stdout


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """The cluster that the user named: its kubeconfig, its context, and where its pods reach this machine."""

    kubeconfig: Path
    context: str
    hub_host: str
    hub_port: int

    @staticmethod
    def read(environment: Mapping[str, str] = os.environ) -> Named | None:
        """Read PLIMSOLL_NODE_*; None: none is named.

        Raises:
            ValueError: one of them is missing or wrong.
        """
        if not environment.get("PLIMSOLL_NODE_KUBECONFIG"):
            return None
        missing = [
            name
            for name in ("PLIMSOLL_NODE_CONTEXT", "PLIMSOLL_NODE_HUB_HOST", "PLIMSOLL_NODE_HUB_PORT")
            if not environment.get(name)
        ]
        if missing:
            raise ValueError(
                f"PLIMSOLL_NODE_KUBECONFIG is set and {', '.join(missing)} is not; set all of them, as hack/end-to-end does"
            )
        port = environment["PLIMSOLL_NODE_HUB_PORT"]
        if not port.isdecimal():
            raise ValueError(
                f"PLIMSOLL_NODE_HUB_PORT is {port!r}; set it to the port in the chart's hub.endpoint"
            )
        return Named(
            kubeconfig=Path(environment["PLIMSOLL_NODE_KUBECONFIG"]),
            context=environment["PLIMSOLL_NODE_CONTEXT"],
            hub_host=environment["PLIMSOLL_NODE_HUB_HOST"],
            hub_port=int(port),
        )

    @contextmanager
    def opened(self, hub_flags: tuple[str, ...], folder: Path) -> Iterator[Stand]:
        """Check the context and start the Hub stand-in.

        Raises:
            ValueError: the kubeconfig's context is another than the one that was named.
            SandboxError: the stand-in does not start.
        """
        kubectl = Kubectl(
            binary=control_plane_binaries()["kubectl"], kubeconfig=self.kubeconfig, cache=folder / "cache"
        )
        current = kubectl("config", "current-context").stdout.strip()
        if current != self.context:
            raise ValueError(
                f"the context of {self.kubeconfig} is {current!r} and PLIMSOLL_NODE_CONTEXT names {self.context!r}; "
                "name the cluster that these tests may use"
            )
        address = (f"--host={self.hub_host}", f"--port={self.hub_port}")
        module = "plimsoll.sandbox.hubstandin_command"
        hub = Child("hub", [sys.executable, "-m", module, *address, *hub_flags], log=folder / "hub.log")
        hub.start()
        try:
            wait_until(
                lambda: "listening on" in hub.log.read_text(),
                what="an address of the Hub stand-in",
                seconds=_HUB_SECONDS,
                children=[hub],
            )
            yield GivenCluster(kubectl=kubectl, hub=hub)
        finally:
            hub.stop()


def served(stand: Stand, path: str) -> list[dict[str, Any]]:
    """What the Hub stand-in gave of one file: start and sent_bytes of each request that has ended, oldest first."""
    lines = stand.hub_log.read_text("utf-8").splitlines()
    entries = (json.loads(line)["served"] for line in lines if line.startswith('{"served"'))
    return [entry for entry in entries if entry["path"] == path]
