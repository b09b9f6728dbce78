"""The whole sandbox: a simulated cluster, the Hub stand-in, our resource, the operator and its webhooks.

The operator and the webhook are processes of their own, and reach the API server as service accounts with exactly
the rights that the chart gives them.
"""

from __future__ import annotations

import contextlib
import re
import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from plimsoll.cluster import rbac
from plimsoll.sandbox.errors import SandboxError
from plimsoll.sandbox.lifecycle import Started
from plimsoll.sandbox.processes import Child, free_ports, listens, wait_until
from plimsoll.sandbox.simulated import SimulatedCluster
from plimsoll.webhook.configurations import Url, webhook_configurations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plimsoll.sandbox.binaries import Binaries
    from plimsoll.sandbox.controlplane import ControlPlane
    from plimsoll.sandbox.kubectl import Kubectl

NAMESPACE: Final = "plimsoll-system"
CRD_FILE: Final = "plimsoll.dev_modeldeployments.yaml"

_START_SECONDS: Final = 60.0
_GRACE_SECONDS: Final = 3.0
_TOKEN_LIFETIME: Final = "--duration=24h"  # noqa: S105
_HUB_URL: Final = re.compile(r"listening on (http://\S+)")


class Cluster(Protocol):
    """What a sandbox stands on: simulated nodes, or a real one."""

    control_plane: ControlPlane

    @property
    def kubectl(self) -> Kubectl:
        """Kubectl as a cluster administrator."""
        ...

    def start(self) -> None:
        """Start everything and wait until every node is Ready."""
        ...

    def stop(self) -> None:
        """End everything."""
        ...

    def check(self) -> None:
        """Hold that every process runs."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessFlags:
    """What our own processes are told beside the addresses of the sandbox.

    Attributes:
        hub: of the Hub stand-in.
        settings: of the operator and the webhook alike.
    """

    hub: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()


class Sandbox(Started):
    """Everything that `plimsoll try` runs; a context manager, or `start` and `stop`."""

    def __init__(
        self,
        binaries: Binaries,
        *,
        nodes: Sequence[dict[str, Any]] | None = None,
        with_operator: bool = True,
        with_webhook: bool = True,
        cluster: Cluster | None = None,
        flags: ProcessFlags | None = None,
    ) -> None:
        """Take the programs and the Node objects, or another cluster, and which of our own processes are to run."""
        self.cluster: Cluster = cluster or SimulatedCluster(binaries, nodes)
        self._flags = flags or ProcessFlags()
        self.hub_url = ""
        self.metrics_url = ""
        self.operator: Child | None = None
        self.webhook: Child | None = None
        self._with_operator = with_operator
        self._with_webhook = with_webhook
        self._children: list[Child] = []

    @property
    def kubectl(self) -> Kubectl:
        """Kubectl as a cluster administrator."""
        return self.cluster.kubectl

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig of a cluster administrator."""
        return self.cluster.control_plane.kubeconfig

    @property
    def folder(self) -> Path:
        """Where logs and data lie while it runs."""
        return self.cluster.control_plane.folder

    def start(self) -> None:
        """Start everything and wait until the operator and the webhook answer.

        Raises:
            SandboxError: a part does not start; the end of its log is quoted, and nothing is left running.
        """
        with contextlib.ExitStack() as undo:
            undo.callback(self.stop)
            self.cluster.start()
            hub = self._child("hub", "plimsoll.sandbox.hubstandin_command", *self._flags.hub)
            self._install()
            self._wait("an address of the Hub stand-in", lambda: self._hub_address(hub))
            ports = free_ports(4)
            if self._with_webhook:
                self._start_webhook(port=ports[0], liveness_port=ports[1])
            if self._with_operator:
                self._start_operator(liveness_port=ports[2], metrics_port=ports[3])
            if self._with_webhook:
                self._wait("an answer of the webhook", lambda: listens(ports[0]))
                self._register_webhook(ports[0])
            if self._with_operator:
                self._wait("an answer of the operator", lambda: listens(ports[2]))
            undo.pop_all()

    def stop(self) -> None:
        """End every process; does nothing where there is none."""
        children, self._children = self._children, []
        for child in children:
            child.ask_to_end()
        for child in reversed(children):
            child.stop()
        self.cluster.stop()

    def check(self) -> None:
        """Hold that every process runs.

        Raises:
            SandboxError: one has ended; the end of its log is quoted.
        """
        self.cluster.check()
        for child in self._children:
            child.check()

    def service_account_kubeconfig(self, name: str) -> Path:
        """A kubeconfig of one of our service accounts in plimsoll-system."""
        token = self.kubectl("create", "token", name, "-n", NAMESPACE, _TOKEN_LIFETIME).stdout.strip()
        return self.cluster.control_plane.kubeconfig_with_token(self.folder / f"{name}.kubeconfig", token)

    def _install(self) -> None:
        """What the chart installs, but for the workloads: the resource, the rights, the namespace."""
        kubectl = self.kubectl
        crd = crd_file()
        kubectl("apply", "--server-side", "-f", str(crd))
        kubectl.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}])
        kubectl.apply(rights())
        kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(crd))

    def _start_operator(self, *, liveness_port: int, metrics_port: int) -> None:
        self.metrics_url = f"http://127.0.0.1:{metrics_port}/metrics"
        self.operator = self._child(
            "operator",
            "plimsoll",
            "operator",
            f"--kubeconfig={self.service_account_kubeconfig('plimsoll-operator')}",
            f"--hub-endpoint={self.hub_url}",
            f"--lease-namespace={NAMESPACE}",
            f"--liveness-port={liveness_port}",
            f"--metrics-port={metrics_port}",
            "--log-format=text",
            *self._flags.settings,
        )

    def _start_webhook(self, *, port: int, liveness_port: int) -> None:
        folder = self.folder / "webhook"
        self.cluster.control_plane.authority.serving().write(folder)
        self.webhook = self._child(
            "webhook",
            "plimsoll",
            "webhook",
            f"--kubeconfig={self.service_account_kubeconfig('plimsoll-webhook')}",
            f"--hub-endpoint={self.hub_url}",
            "--host=127.0.0.1",
            f"--port={port}",
            f"--cert-dir={folder}",
            f"--liveness-port={liveness_port}",
            "--log-format=text",
            *self._flags.settings,
        )

    def _register_webhook(self, port: int) -> None:
        client = Url(base=f"https://127.0.0.1:{port}")
        self.kubectl.apply(webhook_configurations(client, self.cluster.control_plane.authority.bundle))

    def _child(self, name: str, module: str, *arguments: str) -> Child:
        # A token of the user's own is none of the sandbox's business.
        environment = {"HF_TOKEN": "", "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONUNBUFFERED": "1"}
        child = Child(
            name,
            [sys.executable, "-m", module, *arguments],
            log=self.folder / f"{name}.log",
            environment=environment,
            grace_seconds=_GRACE_SECONDS,
        )
        self._children.append(child)
        child.start()
        return child

    def _hub_address(self, hub: Child) -> bool:
        found = _HUB_URL.search(hub.log.read_text("utf-8", "replace"))
        self.hub_url = found[1] if found else ""
        return bool(found)

    def _wait(self, what: str, condition: Any) -> None:
        wait_until(condition, what=what, seconds=_START_SECONDS, children=self._children, poll_seconds=0.1)


def crd_file() -> Path:
    """The generated CustomResourceDefinition: the wheel's copy, or that of the checkout.

    Raises:
        SandboxError: there is neither.
    """
    packaged = Path(str(resources.files("plimsoll"))) / "api" / "crd.yaml"
    own = Path(__file__).resolve().parents[3] / "crds" / CRD_FILE
    for path in (packaged, own):
        if path.is_file():
            return path
    raise SandboxError(f"there is no {own}; run `hack/generate`, or install the package again.")


def rights() -> tuple[dict[str, Any], ...]:
    """The service accounts of the operator and the webhook, with the rights that the chart gives them."""
    objects: list[dict[str, Any]] = []
    for name in ("plimsoll-operator", "plimsoll-webhook"):
        metadata = {"name": name, "namespace": NAMESPACE}
        objects.append({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    operator = {"kind": "ServiceAccount", "name": "plimsoll-operator", "namespace": NAMESPACE}
    webhook = {"kind": "ServiceAccount", "name": "plimsoll-webhook", "namespace": NAMESPACE}
    everywhere = [*rbac.operator_namespaced_rules(), *rbac.operator_cluster_rules()]
    objects += rbac.rbac_objects("plimsoll-operator", operator, everywhere)
    objects += rbac.rbac_objects(
        "plimsoll-operator-leader", operator, rbac.operator_lease_rules(), namespace=NAMESPACE
    )
    served = [*rbac.webhook_namespaced_rules(), *rbac.webhook_cluster_rules()]
    objects += rbac.rbac_objects("plimsoll-webhook", webhook, served)
    return tuple(objects)
