"""Admission of pods: which model a pod is for, how large that is, and so what CPU and memory it needs."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from plimsoll.cluster.errors import ClusterError
from plimsoll.hub.errors import HubProblem
from plimsoll.manifests import labels
from plimsoll.manifests.labels import Component
from plimsoll.manifests.pods import FilledPod, fill_resources
from plimsoll.sizing.host import HostLoad, component_resources
from plimsoll.sizing.selection import weight_files
from plimsoll.units import GIB, QuantityError, parse_bytes, parse_quantity
from plimsoll.webhook.facts import quick_facts

if TYPE_CHECKING:
    from plimsoll.sizing.plan import HostResources
    from plimsoll.webhook.cached import CachedReads
    from plimsoll.webhook.facts import Hub

# vLLM takes the KV cache of a CPU engine from this variable, in GiB; 4 is its default.
_CPU_KV_VARIABLE: Final = "VLLM_CPU_KVCACHE_SPACE"
_CPU_KV_FLAG: Final = "--kv-cache-memory-bytes"
_CPU_KV_DEFAULT_GIB: Final = 4
_MAX_WARNING_LENGTH: Final = 240


class PodReview:
    """Looks at one pod as it is created; whatever fails, the pod is admitted as it is."""

    def __init__(self, *, reads: CachedReads, hub: Hub) -> None:
        """Models are looked up in the catalogue and in the Hub."""
        self._reads = reads
        self._hub = hub

    async def review(self, pod: dict[str, Any], namespace: str) -> FilledPod:
        """The pod with what it lacks, and what its owner should know."""
        component = _component(pod)
        if component is None:
            allowed = ", ".join(kind.value for kind in Component)
            text = f"label {labels.COMPONENT} must be one of {allowed}: CPU and memory are left as they are."
            return FilledPod(warnings=(text,))
        annotations = (pod.get("metadata") or {}).get("annotations") or {}
        if labels.MODEL not in annotations and labels.MODEL_BYTES not in annotations:
            text = f"annotation {labels.MODEL} (a hub id) or {labels.MODEL_BYTES} is missing: nothing is filled in."
            return FilledPod(warnings=(text,))
        notes: list[str] = []
        weights_bytes = await self._weights_bytes(annotations, notes)
        try:
            limit_ranges = await self._reads.limit_ranges(namespace)
        except ClusterError as error:
            limit_ranges = ()
            notes.append(f"limit ranges are not known: {error}")
        filled = fill_resources(pod, _need(pod, component, weights_bytes), limit_ranges)
        cut = tuple(" ".join(note.split())[:_MAX_WARNING_LENGTH] for note in notes)
        return replace(filled, warnings=(*cut, *filled.warnings))

    async def _weights_bytes(self, annotations: dict[str, str], notes: list[str]) -> int | None:
        """The size of the model's files; None, with a note, where nobody knows it."""
        given = annotations.get(labels.MODEL_BYTES)
        if given is not None:
            try:
                return parse_bytes(given)
            except QuantityError as error:
                notes.append(f"annotation {labels.MODEL_BYTES}: {error}")
        model_id = annotations.get(labels.MODEL)
        if model_id is None:
            return None
        try:
            facts = await quick_facts(self._hub, model_id, None)
        except HubProblem as problem:
            notes.append(f"filled in as for a model of unknown size: {problem}")
            return None
        return sum(file.size_bytes for file in weight_files(facts.files))


def _component(pod: dict[str, Any]) -> Component | None:
    value = ((pod.get("metadata") or {}).get("labels") or {}).get(labels.COMPONENT)
    return next((kind for kind in Component if kind.value == value), None)


def _need(pod: dict[str, Any], component: Component, weights_bytes: int | None) -> HostResources:
    containers = [one for one in (pod.get("spec") or {}).get("containers") or () if isinstance(one, dict)]
    gpus = sum(_gpus(container) for container in containers)
    resources = component_resources(
        HostLoad(
            weights_bytes=weights_bytes,
            workers=max(gpus, 1),
            kv_bytes=None if gpus else _cpu_kv_bytes(containers),
        )
    )
    return {
        Component.DOWNLOAD: resources.download,
        Component.SERVER: resources.server,
        Component.TEST: resources.test,
    }[component]


def _gpus(container: dict[str, Any]) -> int:
    """Devices of any vendor: extended resources that end in "gpu" (nvidia.com/gpu, amd.com/gpu, ...)."""
    found = 0
    limits = (container.get("resources") or {}).get("limits") or {}
    for name, amount in limits.items():
        if "/" in name and name.endswith("gpu"):
            try:
                found += int(parse_quantity(amount))
            except QuantityError:
                continue  # the API server refuses the pod itself
    return found


def _cpu_kv_bytes(containers: list[dict[str, Any]]) -> int:
    """What the engine will take: its variable, which wins over its flag, else vLLM's default."""
    for container in containers:
        for variable in container.get("env") or ():
            if variable.get("name") == _CPU_KV_VARIABLE and str(variable.get("value") or "").isdigit():
                return int(variable["value"]) * GIB
    given = [size for container in containers if (size := _flag_bytes(container)) is not None]
    return given[0] if given else _CPU_KV_DEFAULT_GIB * GIB


def _flag_bytes(container: dict[str, Any]) -> int | None:
    """The value of --kv-cache-memory-bytes, beside it or joined to it."""
    lists = (container.get(part) for part in ("command", "args"))
    words = [str(word) for found in lists if isinstance(found, list) for word in found]
    for word, after in itertools.pairwise((*words, "")):
        flag, joined, value = word.partition("=")
        text = value if joined else after
        if flag == _CPU_KV_FLAG and text.isdigit():
            return int(text)
    return None
