"""How much KV space a wanted number of requests at once takes, so that it can be given to the engine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rich.text import Text

from plimsoll.cli.bill import refusal_lines
from plimsoll.cli.documents import pinned_document, refusal_document
from plimsoll.cli.output import indented
from plimsoll.cli.sized import size
from plimsoll.manifests.engine import choose_engine
from plimsoll.reconcile.planning import serving_for
from plimsoll.sizing.plan import Plan, Refusal
from plimsoll.units import format_count, format_gib

if TYPE_CHECKING:
    from rich.console import RenderableType

    from plimsoll.cli.planned import Verdict
    from plimsoll.manifests.context import Settings
    from plimsoll.reconcile.node_pools import NodeSurvey


@dataclass(frozen=True, slots=True, kw_only=True)
class AtOnce:
    """The answer for one ModelDeployment."""

    name: str
    requests: int
    result: Plan | Refusal

    @property
    def fits(self) -> bool:
        """Whether so many requests are held at once."""
        return isinstance(self.result, Plan)


def at_once(verdict: Verdict, survey: NodeSurvey, settings: Settings, requests: int) -> AtOnce | None:
    """The same ModelDeployment with so many requests; None where it is refused anyway."""
    if verdict.facts is None or verdict.plan is None:
        return None
    spec = verdict.deployment.spec
    serving = replace(serving_for(spec, choose_engine(spec, settings).version), concurrency=requests)
    result = size(verdict.facts, serving, survey.pools).result
    return AtOnce(name=verdict.deployment.name, requests=requests, result=result)


def document(answer: AtOnce) -> dict[str, Any]:
    """The answer as JSON."""
    plan = answer.result if isinstance(answer.result, Plan) else None
    refusal = answer.result if isinstance(answer.result, Refusal) else None
    return {
        "verdict": "fits" if plan else "refused",
        "gpus": plan.gpus if plan else None,
        "pinned": pinned_document(plan) if plan else None,
        "refusal": refusal_document(refusal) if refusal else None,
    }


def lines(answer: AtOnce) -> tuple[RenderableType, ...]:
    """The answer as text."""
    if isinstance(answer.result, Refusal):
        return refusal_lines(f"{answer.name} with {answer.requests} requests at once", answer.result)
    return Text(f"{answer.name}, {answer.requests} at once", style="bold"), indented(
        Text(pinned(answer.result))
    )


def pinned(plan: Plan) -> str:
    """The KV space that holds just what was asked for, in a sentence."""
    requests = "1 request" if plan.concurrency == 1 else f"{plan.concurrency} requests at once"
    held = f"{requests} of {format_count(plan.max_model_len)} tokens"
    if plan.pinned_kv_cache_bytes is None:
        return f"the KV cache in host memory holds {held}."
    size = plan.pinned_kv_cache_bytes
    where = "the GPU" if plan.gpus == 1 else f"each of {plan.gpus} GPUs"
    return f"{format_gib(size)} of KV cache on {where} hold {held}: --kv-cache-memory-bytes {size} (kvCacheMemory)."
