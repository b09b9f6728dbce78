"""The chart's own pods on a real node: the operator and the webhook run from the image, as its user."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from plimsoll.sandbox.binaries import tool_binaries
from plimsoll.sandbox.kubectl import Kubectl
from plimsoll.sandbox.processes import wait_until
from plimsoll.sandbox.progress import Console
from plimsoll.sandbox.realnode.building import images
from support.helm import CHART, ROOT, Helm

_RELEASE = "plimsoll-second"


@pytest.fixture
def release(
    machine: None, kubectl: Kubectl, namespace: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Beside the operator of the other tests, so for one namespace only; returns that namespace."""
    binary = tool_binaries(Console(), names=["helm"])["helm"]
    helm = Helm(binary=binary, home=tmp_path_factory.mktemp("helm"))
    where = ("--namespace", namespace, "--kubeconfig", str(kubectl.kubeconfig))
    repository, _, tag = images(ROOT).operator.name.rpartition(":")
    values = {
        "image.repository": repository,
        "image.tag": tag,
        "image.pullPolicy": "Never",
        "watchNamespace": namespace,
        "webhook.replicas": 1,
        "crds.install": "false",
    }
    settings = [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
    helm("install", _RELEASE, str(CHART), *where, *settings)
    yield namespace
    helm("uninstall", _RELEASE, *where, "--wait")


def test_the_operator_leads_and_watches_and_the_webhook_answers(kubectl: Kubectl, release: str) -> None:
    def available() -> bool:
        deployments = kubectl.items("deployments", "-n", release)
        return len(deployments) == 2 and all(
            deployment["status"].get("availableReplicas") == 1 for deployment in deployments
        )

    def watches() -> bool:
        log = kubectl("logs", f"deployment/{_RELEASE}-operator", "-n", release, check=False).stdout
        return f"watching namespace {release}" in log

    wait_until(available, what="the readiness of the operator and the webhook", seconds=180, poll_seconds=0.5)
    wait_until(watches, what="the operator's watches", seconds=180, poll_seconds=0.5)

    metrics = f"/api/v1/namespaces/{release}/services/{_RELEASE}-metrics:metrics/proxy/metrics"
    assert "plimsoll_known_objects" in kubectl("get", "--raw", metrics).stdout
    restarts = [
        status["restartCount"]
        for pod in kubectl.items("pods", "-n", release)
        for status in pod["status"]["containerStatuses"]
    ]
    assert restarts == [0, 0]
