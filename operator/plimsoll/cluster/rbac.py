"""The rights that operator and webhook need, and nothing more: one source for the chart and for the tests.

The operator may read a Secret by name, and may neither list nor watch them: what it may not see cannot leak
through it. Everything else that it writes is of the kinds it makes.
"""

from __future__ import annotations

from typing import Any, Final

from plimsoll import api

Rule = dict[str, list[str]]

_READ: Final = ["get", "list", "watch"]
_APPLY: Final = [*_READ, "create", "patch", "delete"]


def _rule(group: str, resources: list[str], verbs: list[str]) -> Rule:
    return {"apiGroups": [group], "resources": resources, "verbs": list(verbs)}


def operator_namespaced_rules() -> list[Rule]:
    """In every namespace that is watched."""
    return [
        _rule(api.GROUP, [api.PLURAL], _READ),
        _rule(api.GROUP, [f"{api.PLURAL}/status"], ["update"]),
        # An owner reference with blockOwnerDeletion may be set only by who may set the owner's finalizers.
        _rule(api.GROUP, [f"{api.PLURAL}/finalizers"], ["update"]),
        _rule("apps", ["deployments"], _APPLY),
        _rule("apps", ["deployments/scale"], ["patch"]),
        _rule("batch", ["jobs"], _APPLY),
        _rule("", ["services", "persistentvolumeclaims", "configmaps"], _APPLY),
        _rule("", ["pods"], _READ),
        _rule("", ["pods/log"], ["get"]),
        _rule("", ["resourcequotas"], _READ),
        _rule("", ["secrets"], ["get"]),
        _rule("", ["events"], ["list"]),
        _rule("events.k8s.io", ["events"], ["create"]),
    ]


def operator_cluster_rules() -> list[Rule]:
    """What belongs to no namespace."""
    return [_rule("", ["nodes"], _READ)]


def operator_lease_rules() -> list[Rule]:
    """In the namespace of the Lease."""
    return [_rule("coordination.k8s.io", ["leases"], ["get", "create", "update"])]


def webhook_namespaced_rules() -> list[Rule]:
    """In every namespace that is served."""
    return [_rule("", ["resourcequotas", "limitranges"], ["list"])]


def webhook_cluster_rules() -> list[Rule]:
    """What belongs to no namespace."""
    return [_rule("", ["nodes"], ["list"])]


def rbac_objects(
    name: str, subject: dict[str, Any], rules: list[Rule], *, namespace: str | None = None
) -> list[dict[str, Any]]:
    """A role with its binding: cluster-wide, or in one namespace."""
    kind = "ClusterRole" if namespace is None else "Role"
    metadata = {"name": name} if namespace is None else {"name": name, "namespace": namespace}
    version = "rbac.authorization.k8s.io/v1"
    return [
        {"apiVersion": version, "kind": kind, "metadata": metadata, "rules": rules},
        {
            "apiVersion": version,
            "kind": f"{kind}Binding",
            "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
            "subjects": [subject],
        },
    ]
