"""Which quotas govern our pods: scopes and scope selectors of a ResourceQuota."""

from __future__ import annotations

from typing import Any, Final

# Our pods have requests and no deadline of their own, so they are in these scopes and in no other of the old ones.
_IN: Final = {"NotBestEffort": True, "NotTerminating": True, "BestEffort": False, "Terminating": False}
_PRIORITY: Final = "PriorityClass"


def governs(quota: dict[str, Any], resource: str, priority_class: str | None) -> bool:
    """Whether a quota counts this resource of pods with that priority class.

    Source: Kubernetes' page on resource quotas; a quota with scopes counts pods and what they request only.
    """
    spec = quota.get("spec") or {}
    expressions = [{"scopeName": scope, "operator": "Exists"} for scope in spec.get("scopes") or ()]
    expressions += (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    if expressions and not _of_pods(resource):
        return False
    return all(_matches(expression, priority_class) for expression in expressions)


def _of_pods(resource: str) -> bool:
    if resource in {"pods", "requests.cpu", "limits.cpu", "requests.memory", "limits.memory"}:
        return True
    return resource.startswith("requests.") and "/" in resource and "storage" not in resource


def _matches(expression: dict[str, Any], priority_class: str | None) -> bool:
    scope, operator = expression.get("scopeName"), expression.get("operator")
    if scope != _PRIORITY:
        # A scope that our pods have nothing to do with (CrossNamespacePodAffinity) does not count them.
        return _IN.get(str(scope), False)
    values = expression.get("values") or ()
    match operator:
        case "In":
            return priority_class in values
        case "NotIn":
            return priority_class not in values
        case "DoesNotExist":
            return priority_class is None
    return priority_class is not None
