"""The operator and the webhook as processes against a real control plane with simulated nodes.

One sandbox for the whole folder; each test has a namespace of its own. The operator runs as its service account,
so a right that it lacks fails a test.
"""

from __future__ import annotations

import re
import sys
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from plimsoll.controller.executor import REPORTING_CONTROLLER
from plimsoll.sandbox.kubectl import Kubectl
from plimsoll.sandbox.processes import Child, free_ports, listens, wait_until
from plimsoll.sandbox.session import NAMESPACE, Sandbox

WAIT_SECONDS = 45.0
RESOURCE = "modeldeployments.plimsoll.dev"
CHILDREN = "deployments,services,jobs,persistentvolumeclaims,configmaps"
OWNER = "plimsoll.dev/model-deployment"


class OperatorProcess:
    """An operator of the sandbox that can be stopped, killed and started again."""

    def __init__(self, sandbox: Sandbox, name: str = "operator") -> None:
        self.sandbox = sandbox
        self.name = name
        self.health_port, self.metrics_port = free_ports(2)
        self.child = Child(
            name,
            [
                sys.executable,
                "-m",
                "plimsoll",
                "operator",
                f"--kubeconfig={sandbox.service_account_kubeconfig('plimsoll-operator')}",
                f"--hub-endpoint={sandbox.hub_url}",
                f"--lease-namespace={NAMESPACE}",
                f"--liveness-port={self.health_port}",
                f"--metrics-port={self.metrics_port}",
                "--log-format=text",
                "--verbose",
            ],
            log=sandbox.folder / f"{name}-{uuid.uuid4().hex[:6]}.log",
            environment={"PYTHONUNBUFFERED": "1"},
            grace_seconds=15,
        )

    def start(self) -> None:
        self.child.start()
        wait_until(
            lambda: listens(self.health_port),
            what="the operator's health port",
            seconds=30,
            children=[self.child],
        )

    def start_and_lead(self) -> None:
        seen = self.log().count("watching all namespaces")
        self.start()
        wait_until(
            lambda: self.log().count("watching all namespaces") > seen,
            what="the operator to lead",
            seconds=40,
            children=[self.child],
        )

    def log(self) -> str:
        return self.child.log.read_text("utf-8", "replace") if self.child.log.exists() else ""

    def fetch(self, port: int, path: str) -> tuple[int, str]:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return response.status, response.read().decode()

    def writes(self) -> dict[str, int]:
        """Successful writes to the API server so far, by verb and kind; the Lease left out."""
        _, text = self.fetch(self.metrics_port, "/metrics")
        pattern = r'^plimsoll_api_requests_total\{code="ok",kind="(\w+)",verb="(\w+)"\} (\d+)$'
        return {
            f"{verb} {kind}": int(number)
            for kind, verb, number in re.findall(pattern, text, re.MULTILINE)
            if verb not in {"get", "list", "read"} and kind != "Lease"
        }


@dataclass
class World:
    """What a test does and sees in its namespace."""

    kubectl: Kubectl
    namespace: str
    operator: OperatorProcess
    made: list[str] = field(default_factory=list)

    def manifest(self, name: str = "m", model: str = "facebook/opt-125m", **spec: Any) -> dict[str, Any]:
        spec = {"model": {"id": model}, "hardware": {"gpu": {"product": "A10"}}, **spec}
        return {
            "apiVersion": "plimsoll.dev/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": spec,
        }

    def apply(self, *documents: dict[str, Any]) -> None:
        self.kubectl.apply(documents)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        return self.kubectl.get(kind, name, "-n", self.namespace)

    def read(self, name: str = "m") -> dict[str, Any]:
        return self.get(RESOURCE, name)

    def conditions(self, name: str = "m") -> dict[str, tuple[str, str]]:
        found = self.read(name).get("status", {}).get("conditions", ())
        return {one["type"]: (one["status"], one["reason"]) for one in found}

    def message(self, kind: str, name: str = "m") -> str:
        found = self.read(name)["status"]["conditions"]
        return next(one["message"] for one in found if one["type"] == kind)

    def children(self, name: str = "m", kinds: str = CHILDREN) -> dict[str, dict[str, Any]]:
        items = self.kubectl.items(kinds, "-n", self.namespace, "-l", OWNER)
        found = {f"{item['kind']}/{item['metadata']['name']}": item for item in items}
        return {
            key: item for key, item in found.items() if item["metadata"]["labels"][OWNER] == name or not name
        }

    def written(self) -> Counter[str]:
        """What the operator wrote for the models of this namespace alone: applies by kind, and the status."""
        lines = [line for line in self.operator.log().splitlines() if f"object={self.namespace}/" in line]
        applied = (re.search(r"applying kind=(\w+)", line) for line in lines)
        status = sum("wrote the status" in line for line in lines)
        return Counter(found[1] for found in applied if found) + Counter({"status": status})

    def told(self) -> set[str]:
        """Names of the events that the operator posted in this namespace."""
        found = self.kubectl.items("events.events.k8s.io", "-n", self.namespace)
        return {
            item["metadata"]["name"]
            for item in found
            if item.get("reportingController") == REPORTING_CONTROLLER
        }

    def applies(self) -> str:
        """What the operator applied here, and why."""
        lines = self.operator.log().splitlines()
        return "\n".join(line for line in lines if "applying" in line and self.namespace in line)

    def wait(self, what: str, condition: Callable[[], Any], seconds: float = WAIT_SECONDS) -> None:
        try:
            wait_until(lambda: bool(condition()), what=what, seconds=seconds, poll_seconds=0.2)
        except Exception:
            status = self.kubectl("get", RESOURCE, "-n", self.namespace, "-o", "yaml").stdout
            sys.stderr.write(f"{status[-5000:]}\n--- operator\n{self.operator.log()[-8000:]}")
            raise

    def wait_ready(self, name: str = "m") -> dict[str, Any]:
        def ready() -> bool:
            found = self.read(name)
            generation = found["metadata"]["generation"]
            return any(
                one["type"] == "Ready" and one["status"] == "True" and one["observedGeneration"] == generation
                for one in found.get("status", {}).get("conditions", ())
            )

        self.wait(f"{name} to be Ready", ready)
        return self.read(name)

    def wait_reason(self, kind: str, reason: str, name: str = "m") -> None:
        self.wait(
            f"{kind} of {name} to say {reason}",
            lambda: self.conditions(name).get(kind, ("", ""))[1] == reason,
        )

    def settle(self, quiet_seconds: float = 2.0) -> None:
        """Wait until the operator has written nothing for a while."""
        quiet_since, before = time.monotonic(), self.operator.writes()
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() - quiet_since < quiet_seconds:
            assert time.monotonic() < deadline, "the operator goes on writing"
            time.sleep(0.2)
            now = self.operator.writes()
            if now != before:
                quiet_since, before = time.monotonic(), now
