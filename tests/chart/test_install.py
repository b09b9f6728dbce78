"""The chart on a real control plane: install, upgrade, remove."""

from __future__ import annotations

import base64

import pytest

from plimsoll.sandbox.controlplane import ControlPlane
from support.helm import CHART, NAMESPACE, Helm

INSTALLED = ("plimsoll", str(CHART), "--namespace", NAMESPACE)


@pytest.fixture
def kubeconfig(empty_control_plane: ControlPlane) -> str:
    return f"--kubeconfig={empty_control_plane.kubectl.kubeconfig}"


def test_a_release_lives_and_leaves_the_models(
    helm: Helm, empty_control_plane: ControlPlane, kubeconfig: str
) -> None:
    kubectl = empty_control_plane.kubectl
    helm("install", *INSTALLED, "--create-namespace", kubeconfig)

    kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd/modeldeployments.plimsoll.dev")
    assert {d["metadata"]["name"] for d in kubectl.items("deployments", "-n", NAMESPACE)} == {
        "plimsoll-operator",
        "plimsoll-webhook",
    }
    assert {s["metadata"]["name"] for s in kubectl.items("services", "-n", NAMESPACE)} == {
        "plimsoll-metrics",
        "plimsoll-webhook",
    }
    secret = kubectl.get("secret", "plimsoll-webhook-tls", "-n", NAMESPACE)["data"]

    helm("upgrade", *INSTALLED, "--set", "operator.replicas=2", kubeconfig)

    assert kubectl.get("deployment", "plimsoll-operator", "-n", NAMESPACE)["spec"]["replicas"] == 2
    # A new certificate at each upgrade would leave webhook and API server apart until the pods see it.
    assert secret == kubectl.get("secret", "plimsoll-webhook-tls", "-n", NAMESPACE)["data"]
    (webhook,) = kubectl.get("mutatingwebhookconfiguration", "plimsoll-pods")["webhooks"]
    assert base64.b64decode(secret["ca.crt"]) == base64.b64decode(webhook["clientConfig"]["caBundle"])

    helm("uninstall", "plimsoll", "--namespace", NAMESPACE, kubeconfig)

    assert kubectl.items("deployments", "-n", NAMESPACE) == ()
    assert not kubectl.exists("mutatingwebhookconfiguration", "plimsoll-pods")
    assert kubectl.exists("crd", "modeldeployments.plimsoll.dev")


@pytest.mark.parametrize("component", ["operator", "webhook"])
def test_a_component_has_the_rights_that_it_uses_and_no_wide_ones(
    helm: Helm, empty_control_plane: ControlPlane, kubeconfig: str, component: str
) -> None:
    kubectl = empty_control_plane.kubectl
    helm("upgrade", "--install", *INSTALLED, "--create-namespace", kubeconfig)
    account = f"--as=system:serviceaccount:{NAMESPACE}:plimsoll-{component}"

    def may(*request: str) -> bool:
        return (
            kubectl("auth", "can-i", *request, account, "-n", "default", check=False).stdout.strip() == "yes"
        )

    assert may("list", "nodes")
    assert may("create", "jobs.batch") == (component == "operator")
    assert may("get", "secrets") == (component == "operator")
    for wide in (
        ("list", "secrets"),
        ("create", "pods"),
        ("create", "clusterroles"),
        ("delete", "nodes"),
        ("*", "*"),
    ):
        assert not may(*wide), wide
