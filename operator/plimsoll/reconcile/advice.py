"""What admission says beside yes: one fact each, in at most 240 characters, since kubectl prints each on a line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from plimsoll.api.spec import Gate, ModelDeploymentSpec
from plimsoll.api.status import PlanStatus
from plimsoll.manifests.engine import version_in_tag
from plimsoll.manifests.labels import Component
from plimsoll.manifests.resources import component_resources, merged
from plimsoll.reconcile.quota import needs, note_on_switch, resource_quota
from plimsoll.units import format_count, format_size, parse_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from plimsoll.sizing.plan import Refusal

MAX_LENGTH: Final = 240


def admission_warnings(outcome: PlanStatus | Refusal, spec: ModelDeploymentSpec) -> tuple[str, ...]:
    """The plan with CPU, memory and quota, or why there is none and what would fit."""
    facts = _plan(outcome, spec) if isinstance(outcome, PlanStatus) else _refusal(outcome)
    return tuple(_cut(fact) for fact in (*facts, *_of_the_spec(spec)))


def _plan(plan: PlanStatus, spec: ModelDeploymentSpec) -> Iterator[str]:
    yield (
        f"plan: {_where(plan)} per replica, context {format_count(plan.max_model_len)} tokens, limited by "
        f"{plan.limited_by}; KV cache {format_count(plan.kv_cache_tokens)} tokens, {plan.max_concurrency} requests of "
        "full length at once"
    )
    for component in Component:
        amounts = component_resources(plan.resources, spec, component).to_json()
        requests, limits = amounts["requests"], amounts["limits"]
        yield (
            f"{component.value}: requests {requests['cpu']} CPU and {requests['memory']} memory, limits "
            f"{limits['cpu']} CPU and {limits['memory']} memory"
        )
    need = needs(plan, spec)
    hard = resource_quota([need])["spec"]["hard"]
    wanted = ", ".join(f"{key} {hard[key]}" for key in hard if key.startswith("requests."))
    yield f"quota: {wanted}, pods {hard.get('pods', '0')}"
    yield f"quota: {note_on_switch([need])}"
    yield from _less_than_planned(plan, spec)
    yield from plan.warnings or ()


def _where(plan: PlanStatus) -> str:
    if not plan.gpus:
        return "CPU only"
    split = f"TP {plan.tensor_parallel_size}, PP {plan.pipeline_parallel_size}"
    return f"{plan.gpus} x {plan.hardware.product} ({split})"


def _less_than_planned(plan: PlanStatus, spec: ModelDeploymentSpec) -> Iterator[str]:
    """What the user set wins, so it is only told that it is less than computed."""
    resources = spec.resources
    if resources is None:
        return
    for name, planned, wish in (
        ("download", plan.resources.download, resources.download),
        ("server", plan.resources.server, resources.server),
        ("test", plan.resources.test, resources.test),
    ):
        chosen, computed = merged(planned, wish).memory_limit_bytes, parse_bytes(planned.memory_request)
        if chosen < computed:
            yield (
                f"spec.resources.{name}: a memory limit of {format_size(chosen)} is below the {format_size(computed)} "
                "that were computed: expect OOMKilled; raise it, or leave it unset"
            )


def _refusal(refusal: Refusal) -> Iterator[str]:
    yield f"not served: {refusal.message}"
    for alternative in refusal.would_fit:
        yield f"would fit: {alternative}"


def _of_the_spec(spec: ModelDeploymentSpec) -> Iterator[str]:
    """What is allowed and worth a second look."""
    engine, test = spec.engine, spec.test
    if engine is not None and engine.image is not None and engine.version is not None:
        tagged = version_in_tag(engine.image)
        if tagged is not None and tagged != engine.version.removeprefix("v"):
            yield (
                f"spec.engine.version is {engine.version} and the image's tag says {tagged}: the plan assumes "
                f"{engine.version}; make sure that the image holds it"
            )
    if engine is not None and engine.vllm is not None and engine.vllm.trust_remote_code:
        yield "spec.engine.vllm.trustRemoteCode: code of the model's repository will run in the engine; pin a commit"
    if test is not None and test.gate is Gate.OFF:
        yield "spec.test.gate is Off: traffic moves to a revision as soon as it is loaded, without a test"


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_LENGTH else f"{line[: MAX_LENGTH - 3]}..."
