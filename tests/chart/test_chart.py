"""The chart renders, says no to wrong values, and holds what the package says."""

from __future__ import annotations

import base64
import subprocess
from typing import Any

import pytest
import yaml
from cryptography import x509

from plimsoll.cluster import rbac
from plimsoll.webhook.configurations import ServiceRef, webhook_configurations
from support.helm import CHART, NAMESPACE, ROOT, Helm

VARIANTS = {
    "defaults": (),
    "cert-manager": ("--set", "webhook.certificate.certManager=true"),
    "own issuer": (
        "--set",
        "webhook.certificate.certManager=true",
        "--set",
        "webhook.certificate.issuerRef.name=ours",
    ),
    "one namespace": ("--set", "watchNamespace=team-a"),
    "no webhook": ("--set", "webhook.enabled=false"),
    "no CRD": ("--set", "crds.install=false"),
    "mirror and images": (
        "--set",
        "hub.endpoint=https://hub.example.com,images.vllm=mirror/vllm:v0.33.0,images.promptfoo=mirror/p:1",
    ),
}


def of_kind(documents: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [document for document in documents if document["kind"] == kind]


@pytest.mark.parametrize("arguments", VARIANTS.values(), ids=VARIANTS.keys())
def test_the_chart_lints_and_renders(helm: Helm, arguments: tuple[str, ...]) -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART), *arguments).stdout

    documents = helm.template(*arguments)

    names = [(d["kind"], d["metadata"].get("namespace"), d["metadata"]["name"]) for d in documents]
    assert len(names) == len(set(names))
    assert "Deployment" in {kind for kind, _, _ in names}


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("operator.replicas=0", "minimum: got 0, want 1"),
        ("image.pullPolicy=Sometimes", "value must be one of 'Always', 'IfNotPresent', 'Never'"),
        ("hub.endpoint=example.com", "does not match pattern"),
        ("replicaCount=3", "additional properties 'replicaCount' not allowed"),
    ],
)
def test_wrong_values_are_refused_by_name(helm: Helm, setting: str, complaint: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        helm.template("--set", setting)

    assert complaint in refused.value.stderr


@pytest.mark.parametrize("namespace", [None, "team-a"], ids=["everywhere", "one namespace"])
def test_webhook_configurations_are_those_of_the_package(helm: Helm, namespace: str | None) -> None:
    documents = helm.template(*(("--set", f"watchNamespace={namespace}") if namespace else ()))
    secret = next(d for d in of_kind(documents, "Secret"))
    authority = base64.b64decode(secret["data"]["ca.crt"])

    rendered = [d for d in documents if d["kind"].endswith("WebhookConfiguration")]

    expected = webhook_configurations(
        ServiceRef(name="plimsoll-webhook", namespace=NAMESPACE),
        authority,
        name="plimsoll",
        namespace=namespace,
    )
    assert [c["webhooks"] for c in expected] == [c["webhooks"] for c in rendered]
    assert [(c["kind"], c["metadata"]["name"]) for c in expected] == [
        (c["kind"], c["metadata"]["name"]) for c in rendered
    ]


def test_the_certificate_is_for_the_service(helm: Helm) -> None:
    secret = next(d for d in of_kind(helm.template(), "Secret"))

    certificate = x509.load_pem_x509_certificate(base64.b64decode(secret["data"]["tls.crt"]))

    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    service = f"plimsoll-webhook.{NAMESPACE}.svc"
    assert service in names.get_values_for_type(x509.DNSName)


def rules_by_name(documents: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return {d["metadata"]["name"]: d["rules"] for d in of_kind(documents, kind)}


def test_rights_are_those_of_the_package(helm: Helm) -> None:
    documents = helm.template()

    assert rules_by_name(documents, "ClusterRole") == {
        "plimsoll-operator": rbac.operator_namespaced_rules(),
        "plimsoll-operator-cluster": rbac.operator_cluster_rules(),
        "plimsoll-webhook": rbac.webhook_namespaced_rules(),
        "plimsoll-webhook-cluster": rbac.webhook_cluster_rules(),
    }
    assert rules_by_name(documents, "Role") == {"plimsoll-operator-lease": rbac.operator_lease_rules()}


def test_one_namespace_means_rights_in_that_namespace_alone(helm: Helm) -> None:
    documents = helm.template("--set", "watchNamespace=team-a")

    assert rules_by_name(documents, "ClusterRole") == {
        "plimsoll-operator-cluster": rbac.operator_cluster_rules(),
        "plimsoll-webhook-cluster": rbac.webhook_cluster_rules(),
    }
    assert {
        (d["metadata"]["namespace"], d["metadata"]["name"]) for d in of_kind(documents, "RoleBinding")
    } == {
        ("team-a", "plimsoll-operator"),
        ("team-a", "plimsoll-webhook"),
        (NAMESPACE, "plimsoll-operator-lease"),
    }


def test_the_crd_is_the_generated_one(helm: Helm) -> None:
    generated = yaml.safe_load((ROOT / "crds" / "plimsoll.dev_modeldeployments.yaml").read_text())

    (rendered,) = of_kind(helm.template(), "CustomResourceDefinition")

    assert rendered["metadata"]["annotations"].pop("helm.sh/resource-policy") == "keep"
    assert (generated["spec"], generated["metadata"]["name"]) == (
        rendered["spec"],
        rendered["metadata"]["name"],
    )


def test_operator_and_webhook_come_to_the_same_plan(helm: Helm) -> None:
    documents = helm.template(*VARIANTS["mirror and images"])

    def settings(component: str) -> set[str]:
        (found,) = (d for d in of_kind(documents, "Deployment") if d["metadata"]["name"].endswith(component))
        arguments = found["spec"]["template"]["spec"]["containers"][0]["args"]
        return {a for a in arguments if "-image=" in a or a.startswith("--hub-endpoint=")}

    assert settings("operator") == settings("webhook")
    assert "--hub-endpoint=https://hub.example.com" in settings("operator")
