"""The webhook configurations: the one source for the sandbox, the tests and the chart.

Both webhooks fail open (`failurePolicy: Ignore`), because nothing depends on them for being right:
- pods: the operator's own templates already carry what the webhook would fill; other people's pods run without
  it as they did before it was installed, and a webhook that is down must stop nobody's pods.
- modeldeployments: the schema with its CEL rules refuses what is malformed, and the operator runs the same
  rules as the webhook and reports them in the status. With `Fail`, a webhook that is down or was left behind
  would also refuse the updates by which the garbage collector and GitOps tools take objects away.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, Final

from plimsoll import api
from plimsoll.manifests import labels

FILL_PODS: Final = "fill-pod-resources"
VALIDATE_MODEL_DEPLOYMENTS: Final = "validate-modeldeployments"
# The second asks the Hub and the cluster, within a budget of its own that is well below this.
PODS_TIMEOUT_SECONDS: Final = 5
MODEL_DEPLOYMENTS_TIMEOUT_SECONDS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Url:
    """A webhook outside the cluster, such as the sandbox's: "https://127.0.0.1:9443"."""

    base: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRef:
    """A webhook behind a Service."""

    name: str
    namespace: str
    port: int = 443


Client = Url | ServiceRef


def webhook_configurations(
    client: Client, ca_bundle: bytes | None, *, name: str = "plimsoll", namespace: str | None = None
) -> list[dict[str, Any]]:
    """Both configurations.

    Args:
        client: where the webhook listens.
        ca_bundle: PEM; None where something else injects it.
        name: of the configuration objects; two releases in one cluster need two.
        namespace: the only one that is served; None: all but kube-system and the webhook's own.
    """
    common = {
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "matchPolicy": "Equivalent",
        "failurePolicy": "Ignore",
        "namespaceSelector": _namespaces(client, namespace),
    }
    pods = {
        **common,
        "name": f"pods.{api.GROUP}",
        "clientConfig": _client_config(client, FILL_PODS, ca_bundle),
        "rules": [_rule("", "v1", "pods", ["CREATE"])],
        "objectSelector": {"matchExpressions": [{"key": labels.COMPONENT, "operator": "Exists"}]},
        "reinvocationPolicy": "IfNeeded",
        "timeoutSeconds": PODS_TIMEOUT_SECONDS,
    }
    model_deployments = {
        **common,
        "name": f"{api.PLURAL}.{api.GROUP}",
        "clientConfig": _client_config(client, VALIDATE_MODEL_DEPLOYMENTS, ca_bundle),
        "rules": [_rule(api.GROUP, api.VERSION, api.PLURAL, ["CREATE", "UPDATE"])],
        "timeoutSeconds": MODEL_DEPLOYMENTS_TIMEOUT_SECONDS,
    }
    return [
        _configuration("MutatingWebhookConfiguration", f"{name}-pods", pods),
        _configuration("ValidatingWebhookConfiguration", f"{name}-{api.PLURAL}", model_deployments),
    ]


def _configuration(kind: str, name: str, webhook: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "plimsoll"}},
        "webhooks": [webhook],
    }


def _rule(group: str, version: str, plural: str, operations: list[str]) -> dict[str, Any]:
    return {
        "apiGroups": [group],
        "apiVersions": [version],
        "resources": [plural],
        "operations": operations,
        "scope": "Namespaced",
    }


def _client_config(client: Client, handler: str, ca_bundle: bytes | None) -> dict[str, Any]:
    """Kopf finds the handler by the path: it is the handler's id."""
    if isinstance(client, Url):
        found: dict[str, Any] = {"url": f"{client.base.rstrip('/')}/{handler}"}
    else:
        service = {
            "name": client.name,
            "namespace": client.namespace,
            "path": f"/{handler}",
            "port": client.port,
        }
        found = {"service": service}
    if ca_bundle is not None:
        found["caBundle"] = base64.b64encode(ca_bundle).decode()
    return found


def _namespaces(client: Client, namespace: str | None) -> dict[str, Any]:
    key = "kubernetes.io/metadata.name"
    if namespace is not None:
        return {"matchExpressions": [{"key": key, "operator": "In", "values": [namespace]}]}
    spared = ["kube-system"]
    if isinstance(client, ServiceRef) and client.namespace not in spared:
        # A webhook whose own pods wait for it never starts.
        spared.append(client.namespace)
    return {"matchExpressions": [{"key": key, "operator": "NotIn", "values": spared}]}
