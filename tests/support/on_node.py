"""What the tests on a real node share: small ModelDeployments, pods that run a few lines, waiting in words."""

from __future__ import annotations

import uuid
from typing import Any

from plimsoll.sandbox.processes import wait_until
from plimsoll.sandbox.session import Sandbox

# An engine alone is up after a minute; on two cores that others use too it takes several.
READY_SECONDS = 600.0
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
    sandbox: Sandbox,
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
        sandbox.check()
        found.clear()
        found.update(sandbox.kubectl.get("modeldeployments.plimsoll.dev", name, "-n", namespace))
        state = condition(found, kind)
        return (
            state.get("status") == status
            and state.get("observedGeneration") == found["metadata"]["generation"]
            and (reason is None or state.get("reason") == reason)
        )

    try:
        wait_until(holds, what=f"{kind}={status} of {name}", seconds=seconds, poll_seconds=0.5)
    except Exception as error:
        error.add_note(_account(sandbox, found, namespace))
        raise
    return found


def _account(sandbox: Sandbox, deployment: dict[str, Any], namespace: str) -> str:
    kubectl = sandbox.kubectl
    lines = [
        f"{c['type']}={c['status']} {c['reason']}: {c['message']}"
        for c in deployment.get("status", {}).get("conditions", ())
    ]
    lines.append(kubectl("get", "pods,events", "-n", namespace, check=False).stdout)
    for pod in kubectl.items("pods", "-n", namespace):
        name = pod["metadata"]["name"]
        lines.append(f"{name}:\n{kubectl('logs', name, '-n', namespace, '--tail=40', check=False).stdout}")
    return "\n".join(lines)


def run_python(sandbox: Sandbox, namespace: str, program: str, *arguments: str) -> str:
    """Run a few lines in a pod of their own, under the restricted level; returns what they print.

    Raises:
        AssertionError: the pod failed; its log is quoted.
    """
    kubectl, name = sandbox.kubectl, f"ask-{uuid.uuid4().hex[:8]}"
    container = {
        "name": "python",
        "image": _operator_image(sandbox),
        "imagePullPolicy": "Never",
        "command": ["python3", "-c", program, *arguments],
        "resources": {
            "requests": {"cpu": "50m", "memory": "64Mi"},
            "limits": {"cpu": "500m", "memory": "256Mi"},
        },
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
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
        },
    }
    kubectl.apply([pod])
    phases: list[str] = []

    def ended() -> bool:
        phases[:] = [kubectl.get("pod", name, "-n", namespace)["status"].get("phase", "")]
        return phases[0] in ("Succeeded", "Failed")

    wait_until(ended, what=f"the end of the pod {name}", seconds=90, poll_seconds=0.3)
    log = kubectl("logs", name, "-n", namespace).stdout
    assert phases == ["Succeeded"], log
    kubectl("delete", "pod", name, "-n", namespace, "--wait=false")
    return log


def _operator_image(sandbox: Sandbox) -> str:
    jobs = sandbox.kubectl.items("jobs", "-l", "plimsoll.dev/component=download")
    return str(jobs[0]["spec"]["template"]["spec"]["containers"][0]["image"])
