"""Whether a node would take a pod, as far as the pod's own wishes and the node's taints say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from plimsoll.api.spec import PodSpec

_KEEPS_OUT: Final = ("NoSchedule", "NoExecute")
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"

Manifest = dict[str, Any]


def selects(pod: PodSpec, node: Manifest) -> bool:
    """Whether nodeSelector and the required node affinity let the pod onto this node."""
    labels = labels_of(node)
    if any(labels.get(key) != value for key, value in (pod.node_selector or {}).items()):
        return False
    node_affinity = _map(pod.affinity, "nodeAffinity")
    terms = _map(node_affinity, _REQUIRED).get("nodeSelectorTerms")
    if not isinstance(terms, list | tuple):
        return True
    return any(_term_matches(term, labels, str(node.get("metadata", {}).get("name"))) for term in terms)


def untolerated(node: Manifest, tolerations: Sequence[Mapping[str, Any]]) -> str | None:
    """The first taint that keeps a pod with these tolerations off the node, as "key=value:effect"; None: none."""
    for taint in node.get("spec", {}).get("taints") or ():
        if taint.get("effect") in _KEEPS_OUT and not any(_tolerates(one, taint) for one in tolerations):
            value = f"={taint['value']}" if taint.get("value") else ""
            return f"{taint.get('key')}{value}:{taint.get('effect')}"
    return None


def labels_of(node: Manifest) -> dict[str, str]:
    """The node's labels."""
    return dict(node.get("metadata", {}).get("labels") or {})


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    """Source: ToleratesTaint of k8s.io/component-helpers: an empty key with Exists tolerates everything."""
    if toleration.get("effect") not in (None, "", taint.get("effect")):
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in (None, "", taint.get("key"))
    return toleration.get("key") == taint.get("key") and (toleration.get("value") or "") == (
        taint.get("value") or ""
    )


def _term_matches(term: Any, labels: Mapping[str, str], name: str) -> bool:
    """Every expression of a term holds; an empty term selects nothing."""
    if not isinstance(term, dict):
        return False
    expressions = [e for e in term.get("matchExpressions") or () if isinstance(e, dict)]
    fields = [e for e in term.get("matchFields") or () if isinstance(e, dict)]
    if not expressions and not fields:
        return False
    return all(_expression_holds(e, labels) for e in expressions) and all(
        _expression_holds(e, {"metadata.name": name}) for e in fields
    )


def _expression_holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value = labels.get(str(expression.get("key")))
    values = [str(one) for one in expression.get("values") or ()]
    match expression.get("operator"):
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            return _compared(value, values, greater=operator == "Gt")
    return False


def _compared(value: str | None, values: Sequence[str], *, greater: bool) -> bool:
    try:
        left, right = int(value or ""), int("".join(values))
    except ValueError:
        return False
    return left > right if greater else left < right


def _map(parent: Any, key: str) -> dict[str, Any]:
    value = parent.get(key) if isinstance(parent, dict) else None
    return value if isinstance(value, dict) else {}
