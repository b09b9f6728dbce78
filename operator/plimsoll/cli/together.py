"""Several ModelDeployments on one GPU: whether they fit together, with which shares, and whether a cluster serves it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plimsoll.api.spec import GpuSpec, HardwareSpec
from plimsoll.cli.documents import estimate_document, refusal_document
from plimsoll.cli.sized import Sized
from plimsoll.manifests.engine import choose_engine, runs_on_cpu
from plimsoll.reconcile.planning import serving_for
from plimsoll.sizing.errors import UnsupportedModelError
from plimsoll.sizing.gpus import MIG_SUFFIX
from plimsoll.sizing.plan import Refusal, RefusalReason
from plimsoll.sizing.shape import shape_from_facts
from plimsoll.sizing.sharing import Sharing, Tenant, share_card

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from plimsoll.api.spec import ModelDeployment
    from plimsoll.cli.planned import Verdict
    from plimsoll.manifests.context import Settings
    from plimsoll.reconcile.node_pools import NodeSurvey
    from plimsoll.sizing.accelerators import Accelerator, NodePool
    from plimsoll.sizing.sharing import Part

_AFTER_ANOTHER = (
    "Start them one after another, each once the one before answers: while it starts, an engine counts all that "
    "appears on the card as its own."
)
_TIME_SLICING = (
    "To serve them so, let the device plugin share that GPU, and set spec.hardware.gpu.shared and "
    "these shares as spec.engine.vllm.gpuMemoryUtilization; claims of DRA that pods share are not made by the operator."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """The answer for one card.

    Attributes:
        served_by: the nodes on which the operator would serve it so; None: there are none.
        advice: what to do with the answer, and why.
    """

    deployments: tuple[ModelDeployment, ...]
    result: Sharing | Refusal
    served_by: str | None
    advice: str

    @property
    def fits(self) -> bool:
        """Whether one card holds all of them."""
        return isinstance(self.result, Sharing)


def share_a_card(
    verdicts: Sequence[Verdict], survey: Callable[[ModelDeployment], NodeSurvey], settings: Settings
) -> Together | None:
    """The smallest card of these nodes that holds all of the models; None where the question does not arise."""
    deployments = tuple(verdict.deployment for verdict in verdicts)
    if len(verdicts) < 2 or any(runs_on_cpu(one.spec) for one in deployments):  # noqa: PLR2004 - several
        return None
    try:
        tenants = [_tenant(verdict, settings) for verdict in verdicts]
    except UnsupportedModelError as error:
        return _refused(deployments, RefusalReason.UNSUPPORTED_MODEL, str(error))
    known = [tenant for tenant in tenants if tenant is not None]
    if len(known) < len(tenants):
        return None  # the verdicts say what is wrong
    shared = _cards([survey(_asking_for_shares(one)) for one in deployments], shared=True)
    cards = {**_cards([survey(one) for one in deployments], shared=False), **shared}
    best = _smallest(known, sorted(cards, key=lambda card: (card.memory_bytes, card.alias)))
    if best is None:
        return _refused(
            deployments,
            RefusalReason.NO_MATCHING_NODE,
            "There is no kind of GPU that all of them may use: compare their spec.hardware and spec.pod.",
        )
    served_by = shared.get(best.accelerator) if isinstance(best, Sharing) else None
    return Together(
        deployments=deployments,
        result=best,
        served_by=served_by,
        advice=_advice(served_by) if isinstance(best, Sharing) else "",
    )


def document(together: Together) -> dict[str, Any]:
    """The answer as JSON."""
    result = together.result
    sharing = result if isinstance(result, Sharing) else None
    return {
        "verdict": "fits" if sharing else "refused",
        "gpu": _card_document(sharing.accelerator) if sharing else None,
        "gpu_memory_utilization": float(sum(part.share for part in sharing.parts)) if sharing else None,
        "free_bytes": sharing.free_bytes if sharing else None,
        "models": [
            _part_document(deployment, part)
            for deployment, part in zip(together.deployments, sharing.parts, strict=True)
        ]
        if sharing
        else [],
        "served": together.served_by is not None,
        "advice": together.advice,
        "refusal": refusal_document(result) if isinstance(result, Refusal) else None,
    }


def sized_part(part: Part) -> Sized:
    """One server as an estimate of its own."""
    return Sized(
        facts=part.tenant.facts, serving=part.tenant.serving, pools=(part.plan.pool,), result=part.plan
    )


def _part_document(deployment: ModelDeployment, part: Part) -> dict[str, Any]:
    return {
        "name": deployment.name,
        "namespace": deployment.namespace,
        "gpu_memory_utilization": float(part.share),
        "requested_bytes": part.requested_bytes,
        "least_bytes": part.least_bytes,
        "outside_bytes": part.outside_bytes,
        "estimate": estimate_document(sized_part(part)),
    }


def _card_document(card: Accelerator) -> dict[str, Any]:
    return {"name": card.alias, "product": card.product, "memory_bytes": card.memory_bytes}


def _tenant(verdict: Verdict, settings: Settings) -> Tenant | None:
    """The server of a ModelDeployment; None where its spec or its model is refused.

    Raises:
        UnsupportedModelError: the model cannot be sized.
    """
    if verdict.facts is None:
        return None
    deployment = verdict.deployment
    return Tenant(
        name=deployment.name,
        shape=shape_from_facts(verdict.facts),
        facts=verdict.facts,
        serving=serving_for(deployment.spec, choose_engine(deployment.spec, settings).version),
    )


def _asking_for_shares(deployment: ModelDeployment) -> ModelDeployment:
    """The same ModelDeployment, as it would ask for a GPU that is shared."""
    hardware = deployment.spec.hardware or HardwareSpec()
    gpu = (hardware.gpu or GpuSpec()).model_copy(update={"shared": True})
    spec = deployment.spec.model_copy(update={"hardware": hardware.model_copy(update={"gpu": gpu})})
    return deployment.model_copy(update={"spec": spec})


def _smallest(tenants: Sequence[Tenant], cards: Sequence[Accelerator]) -> Sharing | Refusal | None:
    """The first card that holds all of them, else what the last one says; None without cards."""
    result: Sharing | Refusal | None = None
    for card in cards:
        result = share_card(tenants, card)
        if isinstance(result, Sharing):
            break
    return result


def _cards(surveys: Sequence[NodeSurvey], *, shared: bool) -> dict[Accelerator, str]:
    """The whole cards that all may use, or those that nodes share, each with the name of a pool."""
    found = [
        {pool.accelerator: pool.name for pool in survey.pools if _is_whole(pool) and pool.shared >= shared}
        for survey in surveys
    ]
    return {
        card: name
        for card, name in found[0].items()
        if card is not None and all(card in others for others in found[1:])
    }


def _is_whole(pool: NodePool) -> bool:
    card = pool.accelerator
    return card is not None and MIG_SUFFIX not in card.product


def _advice(served_by: str | None) -> str:
    if served_by is None:
        return (
            "No node that was looked at shares such a GPU by time slicing, so the operator gives each of them one of its "
            f"own. {_TIME_SLICING} {_AFTER_ANOTHER}"
        )
    return (
        f"The operator serves them so on {served_by}: set spec.hardware.gpu.shared to true and these shares as "
        f"spec.engine.vllm.gpuMemoryUtilization. {_AFTER_ANOTHER}"
    )


def _refused(deployments: tuple[ModelDeployment, ...], reason: RefusalReason, message: str) -> Together:
    return Together(
        deployments=deployments,
        result=Refusal(reason=reason, message=message),
        served_by=None,
        advice="",
    )
