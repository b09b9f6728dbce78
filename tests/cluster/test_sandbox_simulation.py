"""On the simulated nodes pods are scheduled for real, volumes have topology, and Jobs report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from plimsoll.reconcile.reports import DownloadReport, TestReport, parse
from plimsoll.sandbox.kubectl import Kubectl
from plimsoll.sandbox.processes import wait_until
from plimsoll.sandbox.simulated import SimulatedCluster
from plimsoll.sandbox.simulation import BEHAVIOUR
from plimsoll.sandbox.volumes import BLOCK_CLASS, SHARED_CLASS

ZONE = "topology.kubernetes.io/zone"
PRODUCT = "nvidia.com/gpu.product"


@pytest.fixture
def kubectl(simulation: SimulatedCluster) -> Kubectl:
    return simulation.kubectl


def container(gpus: int = 0, claim: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"name": "main", "image": "example.test/image:1"}
    if gpus:
        found["resources"] = {"limits": {"nvidia.com/gpu": str(gpus)}}
    if claim is not None:
        found["volumeMounts"] = [{"name": "models", "mountPath": "/models"}]
    return found


def pod(
    namespace: str,
    name: str,
    *,
    gpus: int = 0,
    claim: str | None = None,
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    volumes = [{"name": "models", "persistentVolumeClaim": {"claimName": claim}}] if claim else []
    metadata = {
        "name": name,
        "namespace": namespace,
        "labels": labels or {},
        "annotations": annotations or {},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [container(gpus, claim)], "volumes": volumes, **spec},
    }


def job(namespace: str, name: str, component: str, annotations: dict[str, str]) -> dict[str, Any]:
    template = pod(
        namespace,
        "",
        labels={"plimsoll.dev/component": component},
        annotations=annotations,
        restartPolicy="Never",
    )
    del template["metadata"]["name"], template["metadata"]["namespace"]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "backoffLimit": 0,
            "template": {"metadata": template["metadata"], "spec": template["spec"]},
        },
    }


def claim(
    namespace: str, name: str, storage_class: str | None = None, mode: str = "ReadWriteOnce"
) -> dict[str, Any]:
    spec: dict[str, Any] = {"accessModes": [mode], "resources": {"requests": {"storage": "10Gi"}}}
    if storage_class is not None:
        spec["storageClassName"] = storage_class
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def eventually(condition: Callable[[], bool], what: str) -> None:
    wait_until(condition, what=what, seconds=30, poll_seconds=0.2)


def phase(kubectl: Kubectl, namespace: str, name: str) -> str:
    return str(kubectl.get("pod", name, "-n", namespace)["status"].get("phase"))


def node_labels(kubectl: Kubectl, namespace: str, name: str) -> dict[str, str]:
    node = kubectl.get("pod", name, "-n", namespace)["spec"]["nodeName"]
    labels: dict[str, str] = kubectl.get("node", node)["metadata"]["labels"]
    return labels


def test_a_gpu_pod_runs_on_the_card_that_it_asks_for(kubectl: Kubectl, simulated_namespace: str) -> None:
    namespace = simulated_namespace
    kubectl.apply([pod(namespace, "p", gpus=4, nodeSelector={PRODUCT: "NVIDIA-L4"})])

    eventually(lambda: phase(kubectl, namespace, "p") == "Running", "the pod runs")

    assert node_labels(kubectl, namespace, "p")[PRODUCT] == "NVIDIA-L4"


def test_a_pod_that_no_node_can_hold_stays_pending(kubectl: Kubectl, simulated_namespace: str) -> None:
    namespace = simulated_namespace
    kubectl.apply([pod(namespace, "p", gpus=9)])

    def refused() -> bool:
        conditions = kubectl.get("pod", "p", "-n", namespace)["status"].get("conditions", [])
        return any("Insufficient nvidia.com/gpu" in found.get("message", "") for found in conditions)

    eventually(refused, "the scheduler's refusal")
    assert phase(kubectl, namespace, "p") == "Pending"


def test_a_volume_waits_for_its_pod_and_lands_in_the_zone_of_its_node(
    kubectl: Kubectl, simulated_namespace: str
) -> None:
    namespace = simulated_namespace
    kubectl.apply([claim(namespace, "models")])
    kubectl.apply([pod(namespace, "p", claim="models", nodeSelector={PRODUCT: "NVIDIA-L4"})])
    eventually(lambda: phase(kubectl, namespace, "p") == "Running", "the pod runs")

    bound = kubectl.get("pvc", "models", "-n", namespace)
    volume = kubectl.get("pv", bound["spec"]["volumeName"])

    assert bound["spec"]["storageClassName"] == BLOCK_CLASS
    term = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"][0]
    assert (ZONE, [node_labels(kubectl, namespace, "p")[ZONE]]) == (term["key"], term["values"])


def test_a_pod_in_the_other_zone_cannot_use_the_volume(kubectl: Kubectl, simulated_namespace: str) -> None:
    namespace = simulated_namespace
    kubectl.apply([claim(namespace, "models")])
    kubectl.apply([pod(namespace, "first", claim="models", nodeSelector={"kubernetes.io/hostname": "cpu-0"})])
    eventually(lambda: phase(kubectl, namespace, "first") == "Running", "the first pod runs")

    kubectl.apply([pod(namespace, "second", gpus=1, claim="models", nodeSelector={PRODUCT: "NVIDIA-A10"})])

    def refused() -> bool:
        conditions = kubectl.get("pod", "second", "-n", namespace)["status"].get("conditions", [])
        return any(
            "match PersistentVolume's node affinity" in found.get("message", "") for found in conditions
        )

    eventually(refused, "the scheduler's word on the volume")


def test_a_volume_goes_with_its_claim(kubectl: Kubectl, simulated_namespace: str) -> None:
    namespace = simulated_namespace
    kubectl.apply([claim(namespace, "share", SHARED_CLASS, "ReadWriteMany")])
    eventually(
        lambda: kubectl.get("pvc", "share", "-n", namespace)["status"]["phase"] == "Bound",
        "the share is bound",
    )
    volume = kubectl.get("pvc", "share", "-n", namespace)["spec"]["volumeName"]

    kubectl("delete", "pvc", "share", "-n", namespace)

    eventually(lambda: not kubectl.exists("pv", volume), "the volume is removed")


def test_a_claim_that_cannot_be_served_says_why(kubectl: Kubectl, simulated_namespace: str) -> None:
    namespace = simulated_namespace
    kubectl.apply([claim(namespace, "many", BLOCK_CLASS, "ReadWriteMany")])
    kubectl.apply([pod(namespace, "p", claim="many")])

    def told() -> bool:
        events = kubectl.items("events", "-n", namespace)
        return any(SHARED_CLASS in (event.get("message") or "") for event in events)

    eventually(told, "the provisioner's event")
    assert kubectl.get("pvc", "many", "-n", namespace)["status"]["phase"] == "Pending"


ANNOTATIONS = {
    "plimsoll.dev/model-bytes": "251000000",
    "plimsoll.dev/revision-commit": "a" * 40,
    "plimsoll.dev/max-model-len": "2048",
}


@pytest.mark.parametrize(
    ("component", "behaviour", "condition", "code", "report"),
    [
        ("download", None, "Complete", 0, DownloadReport(bytes=251000000, files=1, commit="a" * 40)),
        ("download", "failing-download", "Failed", 1, None),
        ("test", None, "Complete", 0, TestReport(passed=3, failed=0, errors=0, total=3, proven_context=2048)),
        ("test", "failing-test", "Failed", 100, None),
    ],
)
def test_a_job_ends_with_the_report_of_its_behaviour(
    kubectl: Kubectl,
    simulated_namespace: str,
    component: str,
    behaviour: str | None,
    condition: str,
    code: int,
    report: DownloadReport | TestReport | None,
) -> None:
    namespace = simulated_namespace
    annotations = ANNOTATIONS | ({BEHAVIOUR: behaviour} if behaviour else {})
    kubectl.apply([job(namespace, "j", component, annotations)])

    kubectl("wait", f"--for=condition={condition}", "job/j", "-n", namespace, "--timeout=30s")

    status = kubectl.items("pods", "-n", namespace)[0]["status"]["containerStatuses"][0]
    ended = status["state"]["terminated"]
    found = parse(ended["message"])
    assert code == ended["exitCode"]
    assert found is not None
    assert report is None or report == found


def test_a_slow_download_takes_longer_than_a_quick_one(kubectl: Kubectl, simulated_namespace: str) -> None:
    namespace = simulated_namespace
    kubectl.apply(
        [
            job(namespace, "slow", "download", ANNOTATIONS | {BEHAVIOUR: "slow-download"}),
            job(namespace, "quick", "download", ANNOTATIONS),
        ]
    )

    kubectl("wait", "--for=condition=Complete", "job/quick", "-n", namespace, "--timeout=30s")

    assert kubectl.get("job", "slow", "-n", namespace)["status"].get("active") == 1
    kubectl("wait", "--for=condition=Complete", "job/slow", "-n", namespace, "--timeout=30s")


def test_a_server_loads_before_it_is_ready(kubectl: Kubectl, simulated_namespace: str) -> None:
    namespace = simulated_namespace
    kubectl.apply([pod(namespace, "p", labels={"plimsoll.dev/component": "server"})])

    eventually(lambda: phase(kubectl, namespace, "p") == "Running", "the server runs")
    started = kubectl.get("pod", "p", "-n", namespace)["status"]["containerStatuses"][0]
    kubectl("wait", "--for=condition=Ready", "pod/p", "-n", namespace, "--timeout=30s")
    ready = kubectl.get("pod", "p", "-n", namespace)["status"]["containerStatuses"][0]

    assert (started["ready"], ready["ready"]) == (False, True)
    assert started["state"] == ready["state"]


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("crashing-server", "CrashLoopBackOff"),
        ("out-of-memory", "CrashLoopBackOff"),
        ("image-missing", "ImagePullBackOff"),
    ],
)
def test_a_server_that_fails_shows_what_a_kubelet_shows(
    kubectl: Kubectl, simulated_namespace: str, behaviour: str, reason: str
) -> None:
    namespace = simulated_namespace
    labels, annotations = {"plimsoll.dev/component": "server"}, {BEHAVIOUR: behaviour}
    kubectl.apply([pod(namespace, "p", labels=labels, annotations=annotations)])

    def waits() -> bool:
        statuses = kubectl.get("pod", "p", "-n", namespace)["status"].get("containerStatuses", [])
        return any(found["state"].get("waiting", {}).get("reason") == reason for found in statuses)

    eventually(waits, reason)
