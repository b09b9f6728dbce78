"""What the tests on a real node share: small ModelDeployments, pods that run a few lines, waiting in words."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from plimsoll.sandbox.kubectl import Kubectl
from plimsoll.sandbox.processes import Child, wait_until
from support.stand import Stand

# An engine alone is up after a minute; on two cores that others use too it takes several.
READY_SECONDS = 900.0
# Two cores are enough for the test's pods; what would be computed is more.
_RESOURCES = {
    "download": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
    "server": {"requests": {"cpu": "500m", "memory": "2Gi"}, "limits": {"cpu": "2", "memory": "6Gi"}},
    "test": {"requests": {"cpu": "200m", "memory": "512Mi"}, "limits": {"cpu": "2", "memory": "2Gi"}},
}


def small_deployment(name: str, namespace: str, model_id: str, **spec: Any) -> dict[str, Any]:
    """A ModelDeployment on CPU; `spec` adds fields or replaces them."""
    return {
        "apiVersion": "plimsoll.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "model": {"id": model_id},
            # Compiling takes longer than everything that is tested here.
            "engine": {"type": "vLLM", "vllm": {"extraArgs": ["--enforce-eager"]}},
            "parallelism": {"tensorParallelSize": 0},
            "resources": _RESOURCES,
            **spec,
        },
    }


def condition(deployment: dict[str, Any], kind: str) -> dict[str, Any]:
    """One condition; empty where it is not there."""
    conditions = deployment.get("status", {}).get("conditions", ())
    return next((found for found in conditions if found["type"] == kind), {})


def wait_for_condition(
    stand: Stand,
    name: str,
    namespace: str,
    kind: str,
    *,
    status: str = "True",
    reason: str | None = None,
    seconds: float = READY_SECONDS,
) -> dict[str, Any]:
    """Wait for a condition of this generation; returns the ModelDeployment.

    Raises:
        SandboxError: it did not come in time; the conditions and the pods are quoted.
    """
    found: dict[str, Any] = {}

    def holds() -> bool:
        stand.check()
        found.clear()
        found.update(stand.kubectl.get("modeldeployments.plimsoll.dev", name, "-n", namespace))
        state = condition(found, kind)
        return (
            state.get("status") == status
            and state.get("observedGeneration") == found["metadata"]["generation"]
            and (reason is None or state.get("reason") == reason)
        )

    try:
        wait_until(holds, what=f"{kind}={status} of {name}", seconds=seconds, poll_seconds=0.5)
    except Exception as error:
        error.add_note(_account(stand, found, namespace))
        raise
    return found


def _account(stand: Stand, deployment: dict[str, Any], namespace: str) -> str:
    kubectl = stand.kubectl
    lines = [
        f"{c['type']}={c['status']} {c['reason']}: {c['message']}"
        for c in deployment.get("status", {}).get("conditions", ())
    ]
    lines.append(kubectl("get", "pods,events", "-n", namespace, check=False).stdout)
    for pod in kubectl.items("pods", "-n", namespace):
        name = pod["metadata"]["name"]
        lines.append(f"{name}:\n{kubectl('logs', name, '-n', namespace, '--tail=40', check=False).stdout}")
    return "\n".join(lines)


def run_python(stand: Stand, namespace: str, program: str, *arguments: str, claim: str | None = None) -> str:
    """Run a few lines in a pod of their own, under the restricted level; returns what they print.

    `claim` is mounted at /volume.

    Raises:
        AssertionError: the pod failed; its log is quoted.
    """
    kubectl, name = stand.kubectl, f"ask-{uuid.uuid4().hex[:8]}"
    container = {
        "name": "python",
        "image": _operator_image(stand),
        "imagePullPolicy": "Never",
        "command": ["python3", "-c", program, *arguments],
        "resources": {
            "requests": {"cpu": "50m", "memory": "64Mi"},
            "limits": {"cpu": "2", "memory": "256Mi"},
        },
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": []
        if claim is None
        else [{"name": "model", "mountPath": "/volume", "readOnly": True}],
    }
    volume = {"name": "model", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [] if claim is None else [volume],
        },
    }
    kubectl.apply([pod])
    phases: list[str] = []

    def ended() -> bool:
        phases[:] = [kubectl.get("pod", name, "-n", namespace)["status"].get("phase", "")]
        return phases[0] in ("Succeeded", "Failed")

    wait_until(ended, what=f"the end of the pod {name}", seconds=180, poll_seconds=0.3)
    log = kubectl("logs", name, "-n", namespace).stdout
    assert phases == ["Succeeded"], log
    kubectl("delete", "pod", name, "-n", namespace, "--wait=false")
    return log


def _operator_image(stand: Stand) -> str:
    jobs = stand.kubectl.items("jobs", "-l", "plimsoll.dev/component=download")
    return str(jobs[0]["spec"]["template"]["spec"]["containers"][0]["image"])


@contextmanager
def watching(kubectl: Kubectl, log: Path, *arguments: str) -> Iterator[None]:
    """`kubectl get -w` into a file for as long as the context is open."""
    flags = [f"--kubeconfig={kubectl.kubeconfig}", f"--cache-dir={kubectl.cache}"]
    child = Child("kubectl", [kubectl.binary, *flags, "get", *arguments, "-w"], log=log)
    child.start()
    try:
        yield
    finally:
        child.stop()


@contextmanager
def restricted_namespace(kubectl: Kubectl) -> Iterator[str]:
    """A new namespace that enforces the restricted Pod Security level."""
    name = f"node-{uuid.uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    wait_until(
        lambda: kubectl.exists("serviceaccount", "default", "-n", name),
        what=f"the service account of {name}",
        seconds=30,
        poll_seconds=0.1,
    )
    try:
        yield name
    finally:
        kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")
