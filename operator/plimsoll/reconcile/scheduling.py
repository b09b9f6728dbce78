"""What would give an unschedulable pod a node, from the scheduler's words."""

from __future__ import annotations

import re
from typing import Final

# Of kube-scheduler 1.27 to 1.36. Recorded: NVIDIA/k8s-device-plugin#430 (Insufficient), NVIDIA/k8s-device-plugin#421
# (untolerated taint), kubernetes/kubernetes#86942 (node selector), and the sandbox's own scheduler.
_INSUFFICIENT: Final = re.compile(r"(\d+) Insufficient ([\w./-]+?)(?=[,.]? |[,.]?$)")
_TAINT: Final = re.compile(r"(\d+) node\(s\) had untolerated taint(?:\(s\)|s)?(?: \{([^}]{0,200})\})?")
_SELECTOR: Final = re.compile(r"(\d+) node\(s\) didn't match (?:Pod's )?node (?:affinity/)?selector")
_VOLUME_NODE: Final = re.compile(
    r"(\d+) node\(s\) (?:had volume node affinity conflict|didn't match PersistentVolume's node affinity)"
)
_POD_AFFINITY: Final = re.compile(r"(\d+) node\(s\) didn't match pod (anti-)?affinity rules")
_CORDONED: Final = re.compile(r"(\d+) node\(s\) were unschedulable")
_TOO_MANY: Final = re.compile(r"(\d+) Too many pods")

_ANYTHING: Final = "free what it lacks, add a node, or change hardware, resources or pod in the spec"


def what_would_help(message: str) -> str:
    """The next steps for what the scheduler names, the most nodes first; what is not understood gets them all."""
    # What follows is said of preemption, which counts the same nodes again.
    text = message.partition(" preemption:")[0]
    steps: dict[str, int] = {}
    for pattern, step in (
        (_INSUFFICIENT, _insufficient),
        (_TAINT, _taint),
        (_SELECTOR, _selector),
        (_VOLUME_NODE, _volume_node),
        (_POD_AFFINITY, _pod_affinity),
        (_CORDONED, _cordoned),
        (_TOO_MANY, _too_many),
    ):
        for found in pattern.finditer(text):
            steps.setdefault(step(found), int(found[1]))
    ordered = sorted(steps, key=lambda one: -steps[one])
    return f"{'; '.join(ordered)}; or add a node" if ordered else _ANYTHING


def _nodes(found: re.Match[str], one: str, many: str) -> str:
    return f"1 node {one}" if found[1] == "1" else f"{int(found[1])} nodes {many}"


def _insufficient(found: re.Match[str]) -> str:
    resource = found[2]
    if resource in {"cpu", "memory", "ephemeral-storage"}:
        return f"{_nodes(found, 'lacks', 'lack')} {resource}: free it there, or lower resources in the spec"
    return (
        f"{_nodes(found, 'lacks', 'lack')} a free {resource}: free it there, or lower hardware.gpu.count or "
        "parallelism.tensorParallelSize"
    )


def _taint(found: re.Match[str]) -> str:
    taint = f" {{{found[2].strip()}}}" if found[2] is not None else ""
    return f"{_nodes(found, 'has', 'have')} a taint{taint}: add it to pod.tolerations"


def _selector(found: re.Match[str]) -> str:
    return f"{_nodes(found, 'has', 'have')} other labels: change hardware.gpu.product, pod.nodeSelector or pod.affinity"


def _volume_node(found: re.Match[str]) -> str:
    return f"{_nodes(found, 'cannot', 'cannot')} reach the model's volume: make room where it is"


def _pod_affinity(found: re.Match[str]) -> str:
    if found[2]:
        return f"{_nodes(found, 'is', 'are')} kept from it by pod anti-affinity: change pod.affinity"
    return (
        f"{_nodes(found, 'does not have', 'do not have')} the pod that uses the ReadWriteOnce volume: make room beside it, or use a "
        "ReadWriteMany claim"
    )


def _cordoned(found: re.Match[str]) -> str:
    return f"{_nodes(found, 'is', 'are')} cordoned: uncordon one"


def _too_many(found: re.Match[str]) -> str:
    return f"{_nodes(found, 'holds', 'hold')} as many pods as may be: free one"
