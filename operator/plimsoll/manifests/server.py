"""The Deployment that serves one revision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from plimsoll.manifests import labels
from plimsoll.manifests.context import SERVED_PORT
from plimsoll.manifests.labels import Component
from plimsoll.manifests.launch import CACHE_PATH, launch_args, launch_env
from plimsoll.manifests.names import server_name
from plimsoll.manifests.pod_template import metadata, model_mount, pod_template
from plimsoll.manifests.resources import PodResources, component_resources
from plimsoll.manifests.service import PORT_NAME
from plimsoll.manifests.throttling import throttling_hook
from plimsoll.units import GIB, MIB, bytes_quantity, ceil_div

if TYPE_CHECKING:
    from plimsoll.manifests.context import Context
    from plimsoll.manifests.placement import Placement

# What the start-up probe waits for, at the least: the weights at half the throughput that the most common network
# volume guarantees (AWS gp3: 125 MiB/s baseline), and a quarter of an hour for everything that does not depend on
# their size (imports, profiling, compilation, graph capture). A budget costs nothing: it only ends what hangs.
LOAD_BYTES_PER_SECOND: Final = 125 * MIB // 2
START_SECONDS: Final = 900
# An image of some 10 GB, and a node that an autoscaler brings up first.
SCHEDULE_SECONDS: Final = 1800
_PROBE_SECONDS: Final = 10

# Ranks of one engine pass messages and tensors through /dev/shm: a GiB for each rank and one for the engine, well
# above the ring buffers of vLLM (10 x 16 MiB) and NCCL's; but never more than a quarter of the memory limit, which
# these bytes count against.
_SHARED_BYTES: Final = GIB
_SHARED_DIVISOR: Final = 4


def server_deployment(
    ctx: Context, revision: str, placement: Placement, replicas: int | None
) -> dict[str, Any]:
    """The Deployment `<name>-<revision>`; `replicas` None leaves the field to an autoscaler."""
    template = pod_template(
        ctx, Component.SERVER, _container(ctx), _volumes(ctx), placement=placement, revision=revision
    )
    pod = ctx.pod
    # Long enough to finish the answers that are being streamed.
    template["spec"]["terminationGracePeriodSeconds"] = 60
    if pod.topology_spread_constraints:
        # Without a selector Kubernetes counts no pod at all; what is meant is the replicas.
        selector = {"labelSelector": {"matchLabels": labels.server_selector(ctx.name, revision)}}
        template["spec"]["topologySpreadConstraints"] = [
            {**selector, **item} for item in pod.topology_spread_constraints
        ]
    if pod.runtime_class_name is not None:
        template["spec"]["runtimeClassName"] = pod.runtime_class_name
    spec: dict[str, Any] = {
        "selector": {"matchLabels": labels.server_selector(ctx.name, revision)},
        # GPUs do not surge: the old pod gives its cards to the new one.
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
        "revisionHistoryLimit": 2,
        "progressDeadlineSeconds": startup_seconds(ctx) + SCHEDULE_SECONDS,
        "template": template,
    }
    if replicas is not None:
        spec["replicas"] = replicas
    about = metadata(
        ctx, server_name(ctx.name, revision), labels.component(ctx.name, Component.SERVER, revision)
    )
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": about, "spec": spec}


def startup_seconds(ctx: Context) -> int:
    """How long the engine may take until it answers, in whole probes."""
    load = ceil_div(ctx.plan.weights_bytes, LOAD_BYTES_PER_SECOND)
    return ceil_div(START_SECONDS + load, _PROBE_SECONDS) * _PROBE_SECONDS


def _resources(ctx: Context) -> PodResources:
    return component_resources(ctx.plan.resources, ctx.spec, Component.SERVER)


def _container(ctx: Context) -> dict[str, Any]:
    plan = ctx.plan
    resources = _resources(ctx).to_json()
    if plan.gpus and plan.hardware.resource_name is not None:
        for amounts in resources.values():
            amounts[plan.hardware.resource_name] = str(plan.gpus)
    return {
        "name": Component.SERVER.value,
        "image": plan.image,
        "command": ["vllm", "serve"],
        "args": list(launch_args(ctx)),
        "env": launch_env(ctx),
        "ports": [{"name": PORT_NAME, "containerPort": SERVED_PORT, "protocol": "TCP"}],
        "resources": resources,
        **_probes(ctx),
        "volumeMounts": [
            model_mount(read_only=True),
            {"name": "cache", "mountPath": CACHE_PATH},
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 - the mount point in the pod
        ],
        # An engine that dies says why in its log, not in a message.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "lifecycle": throttling_hook(),
    }


def _probes(ctx: Context) -> dict[str, Any]:
    """Nothing but the start-up probe judges a loading engine; liveness forgives five minutes of a busy one."""
    return {
        "startupProbe": _probe(_PROBE_SECONDS, startup_seconds(ctx) // _PROBE_SECONDS),
        "livenessProbe": _probe(30, 10),
        "readinessProbe": _probe(_PROBE_SECONDS, 3),
    }


def _probe(period_seconds: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": "/health", "port": PORT_NAME},
        "periodSeconds": period_seconds,
        "timeoutSeconds": _PROBE_SECONDS,
        "failureThreshold": failures,
    }


def _volumes(ctx: Context) -> list[dict[str, Any]]:
    shared = min(
        _SHARED_BYTES * (1 + max(1, ctx.plan.gpus)), _resources(ctx).memory_limit_bytes // _SHARED_DIVISOR
    )
    return [
        {"name": "cache", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": bytes_quantity(shared)}},
    ]
