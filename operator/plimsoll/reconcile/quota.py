"""What a plan needs of a namespace's ResourceQuotas, what is short of it, and the quota that would be enough.

What runs at once is the server with all its replicas, and one Job beside it: the download before the server is
up, the test after. A new revision starts a second server beside the old one; `note_on_switch` says what that adds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from plimsoll.api import GROUP
from plimsoll.api.spec import Gate, StorageSpec
from plimsoll.manifests.labels import Component
from plimsoll.manifests.resources import PodResources, component_resources
from plimsoll.manifests.volume import volume_bytes
from plimsoll.reconcile.node_gpus import DEFAULT_RESOURCE
from plimsoll.reconcile.quota_scope import governs
from plimsoll.reconcile.quota_usage import OwnUse, own_use
from plimsoll.sizing.host import HostLoad
from plimsoll.sizing.host import component_resources as host_resources
from plimsoll.units import (
    GB,
    GIB,
    QuantityError,
    bytes_quantity,
    ceil_div,
    millicores_quantity,
    parse_bytes,
    parse_quantity,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from plimsoll.api.spec import ModelDeploymentSpec
    from plimsoll.api.status import PlanStatus
    from plimsoll.sizing.plan import HostResources

Manifest = dict[str, Any]
# By the quota's name of a resource: millicores, bytes or a count.
Amounts = Mapping[str, int]

CPU: Final = ("requests.cpu", "limits.cpu")
MEMORY: Final = ("requests.memory", "limits.memory")
PODS: Final = "pods"
CLAIMS: Final = "persistentvolumeclaims"
STORAGE: Final = "requests.storage"
# Other names that Kubernetes' quota has for the same thing.
_SYNONYMS: Final = {
    "cpu": "requests.cpu",
    "memory": "requests.memory",
    "count/pods": PODS,
    f"count/{CLAIMS}": CLAIMS,
}
_NOTE: Final = f"{GROUP}/note"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaNeed:
    """What one ModelDeployment needs at once.

    Attributes:
        server: of all replicas together.
        download, test: of the Job's pod; test is empty where nothing is tested.
        volume: of the claim; empty where the user brought one.
        priority_class: of the pods, for quotas that are scoped by it.
    """

    server: Amounts
    download: Amounts
    test: Amounts
    volume: Amounts = field(default_factory=dict)
    priority_class: str | None = None

    def total(self) -> dict[str, int]:
        """All of it at its peak."""
        return _sum(self.server, _larger(self.download, self.test), self.volume)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """One resource of one quota that does not suffice; millicores, bytes or a count, by the resource.

    Attributes:
        needed: what is still to be created.
        free: hard less used, never below 0.
    """

    quota: str
    resource: str
    needed: int
    free: int
    hard: int
    short: int

    def __str__(self) -> str:
        name = self.resource
        shown = {n: _shown(name, v) for n, v in (("s", self.short), ("n", self.needed), ("f", self.free))}
        plain = name.removeprefix("requests.") if "/" in name else name
        return (
            f"short of {shown['s']} {plain} (needs {shown['n']}, {shown['f']} free of {_shown(name, self.hard)} in "
            f"ResourceQuota {self.quota})"
        )


def needs(plan: PlanStatus, spec: ModelDeploymentSpec) -> QuotaNeed:
    """What the plan needs of a namespace's quota.

    Raises:
        QuantityError: a quantity of the user's is none (validation comes first).
    """
    gate = spec.test.gate if spec.test is not None else None
    replicas = 0 if spec.suspend else spec.replicas
    tested = not spec.suspend and gate is not Gate.OFF
    server = _pod(component_resources(plan.resources, spec, Component.SERVER))
    if plan.gpus:
        server[f"requests.{plan.hardware.resource_name or DEFAULT_RESOURCE}"] = plan.gpus
    return QuotaNeed(
        server={name: amount * replicas for name, amount in server.items()} if replicas else {},
        download=_pod(component_resources(plan.resources, spec, Component.DOWNLOAD)),
        test=_pod(component_resources(plan.resources, spec, Component.TEST)) if tested else {},
        volume=_volume(plan, spec.storage or StorageSpec()),
        priority_class=spec.pod.priority_class_name if spec.pod is not None else None,
    )


def shortfalls(
    need: QuotaNeed,
    quotas: Iterable[Manifest],
    own_children: Iterable[Manifest] = (),
    *,
    revision: str | None = None,
) -> tuple[Shortfall, ...]:
    """What does not fit into the namespace's quotas any more, beyond what is already there of ours.

    Args:
        need: what is to run at once.
        quotas: ResourceQuota objects of the namespace.
        own_children: our Deployments, Jobs and claims, as the API server has them.
        revision: hash of what is wanted; servers of another one stay while it starts, so they do not count as
            already there. None counts every server of ours.
    """
    remaining = _remaining(need, own_use(own_children, revision))
    found: list[Shortfall] = []
    for quota in quotas:
        status = quota.get("status") or {}
        hard = status.get("hard") or (quota.get("spec") or {}).get("hard") or {}
        used = status.get("used") or {}
        for name in sorted(hard):
            resource = _SYNONYMS.get(name, name)
            needed = remaining.get(resource, 0)
            if needed <= 0 or not governs(quota, resource, need.priority_class):
                continue
            limit = _amount(resource, hard[name])
            free = max(0, limit - _amount(resource, used.get(name, "0")))
            if needed > free:
                found.append(
                    Shortfall(
                        quota=str(quota["metadata"]["name"]),
                        resource=name,
                        needed=needed,
                        free=free,
                        hard=limit,
                        short=needed - free,
                    )
                )
    return tuple(found)


def resource_quota(needs: Sequence[QuotaNeed], *, name: str = "plimsoll") -> Manifest:
    """The ResourceQuota in which all of them run at once."""
    hard = _sum(*(need.total() for need in needs))
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": name, "annotations": {_NOTE: note_on_switch(needs)}},
        "spec": {"hard": {key: _shown(key, hard[key]) for key in sorted(hard)}},
    }


def note_on_switch(needs: Sequence[QuotaNeed]) -> str:
    """What a new revision adds while it starts beside the old one, of the largest server."""
    largest = _larger(*(need.server for need in needs))
    added = ", ".join(
        f"{_shown(key, largest[key])} {key}" for key in sorted(largest) if key.startswith("requests.")
    )
    if not added:
        return "Nothing is served, so a new revision adds nothing."
    return f"A new revision starts beside the old one: leave room for {added} more, or it waits for the room."


# "7B", "1.5b", "350M": parameters, as models are called.
_SIZE: Final = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)\s*([MBT])", re.IGNORECASE)
_PARAMETERS: Final = MappingProxyType({"M": 10**6, "B": 10**9, "T": 10**12})
_BYTES_PER_PARAMETER: Final = 2  # bfloat16
# Cards of 80 GB, of which nine tenths may hold weights; models below half a GB of files run without a GPU.
_CARD_BYTES: Final = 80 * GB * 9 // 10
_NO_GPU_BELOW: Final = GB // 2


def rule_of_thumb(size: str) -> Manifest:
    """The ResourceQuota for one model of a size such as "7B", before its config was looked at.

    Raises:
        ValueError: the text is no size.
    """
    match = _SIZE.fullmatch(size.strip())
    parameters = Fraction(match[1]) * _PARAMETERS[match[2].upper()] if match is not None else Fraction(0)
    if parameters < 1:
        raise ValueError(
            f"{size[:40]!r} is no model size: write the number of parameters, such as 7B, 350M or 1.5B."
        )
    files_bytes = int(parameters * _BYTES_PER_PARAMETER)
    # Tensor parallel sizes are powers of two.
    gpus = 0 if files_bytes < _NO_GPU_BELOW else 1 << (ceil_div(files_bytes, _CARD_BYTES) - 1).bit_length()
    host = host_resources(
        HostLoad(weights_bytes=files_bytes, workers=max(gpus, 1), kv_bytes=None if gpus else 4 * GIB)
    )
    server = _host(host.server)
    if gpus:
        server[f"requests.{DEFAULT_RESOURCE}"] = gpus
    volume = {CLAIMS: 1, STORAGE: volume_bytes(files_bytes)}
    need = QuotaNeed(server=server, download=_host(host.download), test=_host(host.test), volume=volume)
    found = resource_quota([need], name=f"plimsoll-{size.strip().lower().replace('.', '-').replace(' ', '')}")
    basis = f"A rule of thumb for {size.strip()} in 16 bits" + (
        f" on GPUs of 80 GB ({gpus})" if gpus else " on CPU"
    )
    annotations = found["metadata"]["annotations"]
    annotations[_NOTE] = f"{basis}; `plimsoll quota -f FILE` computes it for a model. {annotations[_NOTE]}"
    return found


def _pod(resources: PodResources) -> dict[str, int]:
    return {
        "requests.cpu": resources.cpu_request_millicores,
        "limits.cpu": resources.cpu_limit_millicores,
        "requests.memory": resources.memory_request_bytes,
        "limits.memory": resources.memory_limit_bytes,
        PODS: 1,
    }


def _host(need: HostResources) -> dict[str, int]:
    return {
        "requests.cpu": need.cpu_request_millicores,
        "limits.cpu": need.cpu_limit_millicores,
        "requests.memory": need.memory_request_bytes,
        "limits.memory": need.memory_limit_bytes,
        PODS: 1,
    }


def _volume(plan: PlanStatus, storage: StorageSpec) -> dict[str, int]:
    if storage.existing_claim is not None:
        return {}
    size = parse_bytes(storage.size) if storage.size is not None else volume_bytes(plan.download_bytes)
    found = {CLAIMS: 1, STORAGE: size}
    if storage.storage_class_name is not None:
        prefix = f"{storage.storage_class_name}.storageclass.storage.k8s.io"
        found |= {f"{prefix}/{CLAIMS}": 1, f"{prefix}/{STORAGE}": size}
    return found


def _remaining(need: QuotaNeed, use: OwnUse) -> dict[str, int]:
    """What is still to be created."""
    jobs = _larger(
        {} if use.downloaded else need.download,
        {} if use.tested else need.test,
    )
    volume = {} if use.has_claim else need.volume
    return _sum(_less(need.server, use.server), _less(jobs, use.jobs), volume)


def _sum(*amounts: Amounts) -> dict[str, int]:
    names = {name: None for one in amounts for name in one}
    return {name: sum(one.get(name, 0) for one in amounts) for name in names}


def _larger(*amounts: Amounts) -> dict[str, int]:
    names = {name: None for one in amounts for name in one}
    return {name: max(one.get(name, 0) for one in amounts) for name in names}


def _less(need: Amounts, use: Amounts) -> dict[str, int]:
    return {name: max(0, amount - use.get(name, 0)) for name, amount in need.items()}


def _amount(resource: str, text: Any) -> int:
    """Supply, rounded down; what cannot be read gives nothing."""
    try:
        amount = parse_quantity(text)
    except QuantityError:
        return 0
    return int(amount * 1000) if resource in CPU else int(amount)


def _shown(resource: str, amount: int) -> str:
    name = _SYNONYMS.get(resource, resource)
    if name in CPU:
        return millicores_quantity(amount)
    if name in MEMORY or name.endswith(STORAGE):
        return bytes_quantity(amount)
    return str(amount)
