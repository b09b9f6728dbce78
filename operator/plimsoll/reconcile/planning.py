"""From a spec, the facts of its model and the nodes there are to the plan that status keeps, or a refusal."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from decimal import ROUND_DOWN, Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from plimsoll.api.spec import EngineSpec, GpuSpec, ModelDeploymentSpec, ParallelismSpec, VllmSpec
from plimsoll.api.status import (
    PlannedComponents,
    PlannedHardware,
    PlannedResources,
    PlanPart,
    PlanStatus,
)
from plimsoll.manifests.engine import EngineVersionUnknownError, choose_engine
from plimsoll.manifests.labels import REPLAN
from plimsoll.reconcile.extra_args import argument_warnings, served_with
from plimsoll.reconcile.node_room import room_warnings
from plimsoll.sizing.errors import UnsupportedModelError
from plimsoll.sizing.estimate import estimate
from plimsoll.sizing.plan import Plan, Refusal, RefusalReason
from plimsoll.sizing.selection import download_files, is_weight_file
from plimsoll.sizing.serving import Serving
from plimsoll.sizing.shape import shape_from_facts
from plimsoll.units import QuantityError, bytes_quantity, millicores_quantity, parse_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plimsoll.api.spec import ModelDeployment
    from plimsoll.manifests.context import Settings
    from plimsoll.sizing.accelerators import NodePool
    from plimsoll.sizing.facts import ModelFacts
    from plimsoll.sizing.plan import HostResources, Part

_HASH_LENGTH: Final = 16  # hex digits
_MAX_TEXT: Final = 1024  # of a text in status
_MAX_WARNINGS: Final = 32
# Of spec.pod, what decides on which nodes a pod may land; labels and the like make no other plan.
_PLACEMENT: Final = ("nodeSelector", "tolerations", "affinity")


def serving_for(spec: ModelDeploymentSpec, version: str) -> Serving:
    """The user's wishes in sizing's terms.

    Raises:
        QuantityError: a quantity of the user's is none (validation comes first).
    """
    engine = spec.engine or EngineSpec()
    vllm = engine.vllm or VllmSpec()
    parallelism = spec.parallelism or ParallelismSpec()
    gpu = (spec.hardware.gpu if spec.hardware is not None else None) or GpuSpec()
    share = vllm.gpu_memory_utilization
    serving = Serving(
        engine_version=version,
        max_model_len=engine.max_model_len,
        gpu_memory_utilization=Fraction(str(share)) if share is not None else None,
        quantization=vllm.quantization,
        dtype=vllm.dtype,
        kv_cache_dtype=vllm.kv_cache_dtype,
        max_num_seqs=vllm.max_num_seqs,
        max_num_batched_tokens=vllm.max_num_batched_tokens,
        enable_chunked_prefill=vllm.enable_chunked_prefill,
        cpu_offload_bytes=parse_bytes(vllm.cpu_offload) if vllm.cpu_offload is not None else 0,
        kv_cache_memory_bytes=parse_bytes(vllm.kv_cache_memory) if vllm.kv_cache_memory is not None else None,
        tensor_parallel_size=parallelism.tensor_parallel_size,
        pipeline_parallel_size=parallelism.pipeline_parallel_size,
        gpus=gpu.count,
        max_nodes=1,  # a replica is one pod
        min_gpu_memory_bytes=parse_bytes(gpu.min_memory) if gpu.min_memory is not None else 0,
    )
    return served_with(serving, _extra_args(spec))


def inputs_hash(deployment: ModelDeployment) -> str:
    """Hash of what a plan is made from: as long as it is the same, the plan in status is kept."""
    spec = deployment.spec.to_json()
    pod = spec.get("pod", {})
    content = {
        **{part: spec.get(part) for part in ("model", "engine", "parallelism", "hardware")},
        "placement": {part: pod[part] for part in _PLACEMENT if part in pod},
        "replan": deployment.annotations.get(REPLAN),
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_LENGTH]


def plan_for(
    deployment: ModelDeployment,
    facts: ModelFacts,
    pools: Sequence[NodePool],
    settings: Settings,
    left_out: Sequence[str] = (),
    elsewhere: Sequence[NodePool] = (),
) -> PlanStatus | Refusal:
    """Choose the engine, read the model, size it on the pools.

    `left_out` says why further nodes are not among the pools (`node_pools.survey_nodes`), and `elsewhere` which of
    them only the user's choice of GPU keeps out: both for the refusal's text.
    """
    spec = deployment.spec
    try:
        engine = choose_engine(spec, settings)
        problem = _files_problem(facts, spec)
        if problem is not None:
            return problem
        shape = shape_from_facts(facts)
        result = estimate(shape, facts, serving_for(spec, engine.version), pools, elsewhere=elsewhere)
    except (EngineVersionUnknownError, QuantityError) as error:
        return Refusal(reason=RefusalReason.UNSUPPORTED_OPTION, message=str(error))
    except UnsupportedModelError as error:
        return Refusal(reason=RefusalReason.UNSUPPORTED_MODEL, message=str(error))
    if isinstance(result, Refusal):
        return _with_nodes(result, pools, left_out)
    return plan_status(result, facts, spec, engine.image, inputs_hash(deployment))


def _extra_args(spec: ModelDeploymentSpec) -> tuple[str, ...]:
    vllm = (spec.engine or EngineSpec()).vllm
    return (vllm.extra_args or ()) if vllm is not None else ()


def plan_status(
    plan: Plan, facts: ModelFacts, spec: ModelDeploymentSpec, image: str, inputs_hash: str
) -> PlanStatus:
    """The plan as status keeps it: all that the children are made from, and the bill."""
    files = download_files(facts.files, spec.model.allow_patterns)
    expected = plan.expected_kv_cache or plan.kv_cache
    resources = PlannedComponents(
        download=_resources(plan.resources.download),
        server=_resources(plan.resources.server),
        test=_resources(plan.resources.test),
    )
    warnings = (
        *plan.warnings,
        *argument_warnings(_extra_args(spec)),
        *room_warnings(resources, spec, plan.pool),
    )
    return PlanStatus(
        inputs_hash=inputs_hash,
        model_id=facts.model_id,
        commit=facts.commit,
        image=image,
        engine_version=plan.engine_version,
        hardware=_hardware(plan),
        tensor_parallel_size=plan.tensor_parallel_size,
        pipeline_parallel_size=plan.pipeline_parallel_size,
        gpus=plan.gpus,
        nodes=plan.nodes,
        max_model_len=plan.max_model_len,
        limited_by=_cut(plan.limited_by),
        kv_cache_tokens=plan.kv_cache.tokens,
        kv_cache_bytes=plan.kv_cache.bytes_per_gpu,
        kv_cache_blocks=plan.kv_cache.blocks,
        expected_kv_cache_tokens=expected.tokens if expected != plan.kv_cache else None,
        expected_kv_cache_blocks=expected.blocks if expected != plan.kv_cache else None,
        max_num_seqs=plan.lowered_max_num_seqs,
        max_concurrency=_decimal(plan.kv_cache.max_concurrency, "0.01"),
        gpu_memory_utilization=_decimal(plan.gpu_memory_utilization, "0.0001") if plan.gpus else None,
        per_gpu=tuple(_part(part) for part in plan.parts),
        weights_bytes=plan.weights_bytes,
        download_bytes=sum(file.size_bytes for file in files),
        has_chat_template=facts.has_chat_template,
        resources=resources,
        warnings=tuple(_cut(warning) for warning in warnings[:_MAX_WARNINGS]) or None,
    )


def _files_problem(facts: ModelFacts, spec: ModelDeploymentSpec) -> Refusal | None:
    """A download without weights would end in an engine that finds none; without a file list nobody can say."""
    if not facts.files or any(
        is_weight_file(file.path) for file in download_files(facts.files, spec.model.allow_patterns)
    ):
        return None
    if spec.model.allow_patterns is not None:
        return Refusal(
            reason=RefusalReason.UNSUPPORTED_OPTION,
            message=(
                f"model.allowPatterns {list(spec.model.allow_patterns)} match no weight file of {facts.model_id}; "
                'correct them, such as "*.safetensors", or leave them unset to download what the engine loads.'
            ),
        )
    return Refusal(
        reason=RefusalReason.UNSUPPORTED_MODEL,
        message=(
            f"{facts.model_id} has no weights that the engine loads (.safetensors, .bin or .pt beside config.json); "
            "name a repository that has them, or set model.allowPatterns."
        ),
    )


def _with_nodes(refusal: Refusal, pools: Sequence[NodePool], left_out: Sequence[str]) -> Refusal:
    """Where no node is left at all, the reasons why are the answer."""
    if pools or not left_out or refusal.reason is not RefusalReason.NO_MATCHING_NODE:
        return refusal
    return replace(
        refusal,
        message=(
            f"No node can be used ({'; '.join(left_out)}); change spec.hardware or spec.pod, or the nodes."
        ),
    )


def _hardware(plan: Plan) -> PlannedHardware:
    accelerator = plan.pool.accelerator if plan.gpus else None
    labels = dict(plan.pool.node_labels) or None
    if accelerator is None:
        return PlannedHardware(node_labels=labels)
    return PlannedHardware(
        product=accelerator.product,
        resource_name=plan.pool.resource_name,
        memory_bytes=accelerator.memory_bytes,
        gpus_per_node=plan.pool.gpus_per_node,
        node_labels=labels,
    )


def _part(part: Part) -> PlanPart:
    return PlanPart(
        part=part.name.value,
        bytes=part.bytes,
        expected_bytes=None if part.expected_bytes == part.bytes else part.expected_bytes,
        low_bytes=None if part.exact else part.low_bytes,
        source=_cut(part.source),
    )


def _resources(need: HostResources) -> PlannedResources:
    return PlannedResources(
        cpu_request=millicores_quantity(need.cpu_request_millicores),
        cpu_limit=millicores_quantity(need.cpu_limit_millicores),
        memory_request=bytes_quantity(need.memory_request_bytes),
        memory_limit=bytes_quantity(need.memory_limit_bytes),
    )


def _decimal(value: Fraction, step: str) -> str:
    """A decimal, rounded down: it tells of supply."""
    exact = Decimal(value.numerator) / Decimal(value.denominator)
    text = format(exact.quantize(Decimal(step), rounding=ROUND_DOWN), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 3]}..."
