"""Several engines on one card: what each must have, which shares divide the card, and what does not fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.accelerators import NodePool
from plimsoll.sizing.constants import BASELINE
from plimsoll.sizing.draft import check_speculation
from plimsoll.sizing.engine import UnsupportedOptionError, parse_version
from plimsoll.sizing.errors import UnsupportedModelError
from plimsoll.sizing.estimate import estimate
from plimsoll.sizing.gpus import checked_cards
from plimsoll.sizing.lora import check_lora
from plimsoll.sizing.options import check_serving
from plimsoll.sizing.plan import Plan, Refusal, RefusalReason
from plimsoll.sizing.rules import HardwareCannotError, precision_for
from plimsoll.sizing.search import Placement, Search
from plimsoll.units import ceil_fraction, format_gib

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plimsoll.sizing.accelerators import Accelerator
    from plimsoll.sizing.facts import ModelFacts
    from plimsoll.sizing.launch import Launch
    from plimsoll.sizing.model import ModelShape
    from plimsoll.sizing.serving import Serving

# Source of the rules: vLLM 0.33.0, v1/worker/gpu_worker.py and v1/worker/utils.py (request_memory): an engine asks
# for its share of the card's total to be free when it starts, and fills that share with its KV cache.
_STEP: Final = Fraction(1, 1000)  # of a share
_CARDS_SHOWN: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """One server that is to share a card."""

    name: str
    shape: ModelShape
    facts: ModelFacts
    serving: Serving


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one server gets of the card.

    Attributes:
        share: its gpu_memory_utilization.
        requested_bytes: the share in bytes, which must be free when it starts.
        least_bytes: what it needs at least: weights, activations, graphs, runtime, one request of its context.
        outside_bytes: what it takes beside its share: CUDA context, cuBLAS; before vLLM 0.20 the graphs too.
    """

    tenant: Tenant
    share: Fraction
    requested_bytes: int
    least_bytes: int
    outside_bytes: int
    plan: Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """A card divided among servers; the parts with what lies outside them are at most the card's memory."""

    accelerator: Accelerator
    parts: tuple[Part, ...]

    @property
    def free_bytes(self) -> int:
        """What no server takes."""
        taken = sum(part.requested_bytes + part.outside_bytes for part in self.parts)
        return self.accelerator.memory_bytes - taken


@dataclass(frozen=True, slots=True, kw_only=True)
class _Need:
    """A server's claim on a card before the card is divided."""

    tenant: Tenant
    least_bytes: int
    outside_bytes: int
    token_bytes: int
    context: int

    def least_share(self, total: int) -> Fraction:
        """The smallest share, in steps, that holds the least; the user's own where he set one."""
        given = self.tenant.serving.gpu_memory_utilization
        return given if given is not None else _round_up(Fraction(self.least_bytes, total))


def share_card(tenants: Sequence[Tenant], accelerator: Accelerator) -> Sharing | Refusal:
    """Divide one card among these servers, each on this card alone.

    A share that a server's options set stays as it is. The others get what they need for one request of their
    context, and of the rest as much as gives all of them the same number of further tokens in their KV caches.
    """
    needs: list[_Need] = []
    for tenant in tenants:
        need = _need(tenant, accelerator)
        if isinstance(need, Refusal):
            return replace(
                need, message=f"{tenant.name}: {need.message}", would_fit=_would_fit(tenants, accelerator)
            )
        needs.append(need)
    total = accelerator.memory_bytes
    shares = [need.least_share(total) for need in needs]
    taken = sum(_taken(share, need, total) for share, need in zip(shares, needs, strict=True))
    if taken > total:
        return _too_much(needs, shares, accelerator, tenants)
    shares = _with_the_rest(shares, needs, total, total - taken)
    return _divided(needs, shares, accelerator)


def _need(tenant: Tenant, accelerator: Accelerator) -> _Need | Refusal:
    """What one server must have on this card."""
    try:
        launch = _launch(tenant, accelerator)
    except HardwareCannotError as problem:
        return Refusal(reason=RefusalReason.HARDWARE_CANNOT, message=f"{problem}.")
    except UnsupportedOptionError as problem:
        return Refusal(reason=RefusalReason.UNSUPPORTED_OPTION, message=str(problem))
    except UnsupportedModelError as problem:
        return Refusal(reason=RefusalReason.UNSUPPORTED_MODEL, message=str(problem))
    context = _context(tenant)
    least = _least_bytes(launch, context)
    given = tenant.serving.gpu_memory_utilization
    total = accelerator.memory_bytes
    if given is not None and ceil_fraction(given * total) < least:
        return Refusal(
            reason=RefusalReason.DOES_NOT_FIT,
            message=f"gpuMemoryUtilization is {float(given):g}, which is {format_gib(ceil_fraction(given * total))} of "
            f"{accelerator.alias}, and a context of {context} tokens needs {format_gib(least)}; leave it unset, or set "
            f"{float(_round_up(Fraction(least, total))):g} or more.",
            needed_bytes=least,
            available_bytes=ceil_fraction(given * total),
        )
    return _Need(
        tenant=tenant,
        least_bytes=least,
        outside_bytes=_outside_bytes(launch),
        token_bytes=max(launch.layout.token_bytes_by_stage),
        context=context,
    )


def _launch(tenant: Tenant, accelerator: Accelerator) -> Launch:
    """The server on this one card.

    Raises:
        HardwareCannotError: this card cannot.
        UnsupportedOptionError: the server asks for more than one card, or for what no card makes right.
    """
    serving = tenant.serving
    version = parse_version(serving.engine_version)
    check_serving(serving, version)
    check_speculation(tenant.shape, serving)
    check_lora(tenant.shape, serving)
    for name, value in (
        ("parallelism.tensorParallelSize", serving.tensor_parallel_size),
        ("parallelism.pipelineParallelSize", serving.pipeline_parallel_size),
        ("hardware.gpu.count", serving.gpus),
    ):
        if value not in (None, 1):
            raise UnsupportedOptionError(
                f"{name} is {value}: a card is shared by servers that run on one card each; leave it unset."
            )
    if serving.max_model_len is not None and serving.max_model_len > tenant.shape.length_limit:
        raise UnsupportedOptionError(
            f"maxModelLen is {serving.max_model_len}: the model is made for at most {tenant.shape.max_model_len} "
            "tokens; lower it or leave it unset."
        )
    placement = Placement(
        pool=_one(accelerator),
        accelerator=accelerator,
        precision=precision_for(tenant.shape, serving, accelerator, version),
        tensor_parallel_size=1,
        pipeline_parallel_size=1,
        nodes=1,
    )
    return Search(tenant.shape, serving, version).launch(placement)


def _context(tenant: Tenant) -> int:
    """The context that a server must have at least."""
    serving = tenant.serving
    search = Search(tenant.shape, serving, parse_version(serving.engine_version))
    return serving.max_model_len or search.useful_tokens


def _least_bytes(launch: Launch, context: int) -> int:
    """All of an engine with the KV cache for one request of this length, or with the one that is given."""
    given = launch.serving.kv_cache_memory_bytes
    if given is not None:
        return launch.fullest_bytes(context) + given
    return launch.needed_bytes(context)[0]


def _outside_bytes(launch: Launch) -> int:
    """What an engine takes beside its share."""
    if launch.graphs_charged or launch.serving.enforce_eager:
        return BASELINE.high_bytes
    return BASELINE.high_bytes + launch.graphs.high


def _taken(share: Fraction, need: _Need, total: int) -> int:
    return ceil_fraction(share * total) + need.outside_bytes


def _with_the_rest(shares: list[Fraction], needs: Sequence[_Need], total: int, rest: int) -> list[Fraction]:
    """The rest of the card by the bytes of a token, to those whose share and KV space are not set."""
    weights = [
        need.token_bytes
        if need.tenant.serving.gpu_memory_utilization is None
        and need.tenant.serving.kv_cache_memory_bytes is None
        else 0
        for need in needs
    ]
    if not sum(weights):
        return shares
    rest = max(0, rest - len(shares))  # a share in bytes is rounded up
    return [
        share + _round_down(Fraction(rest * weight, sum(weights) * total))
        for share, weight in zip(shares, weights, strict=True)
    ]


def _divided(
    needs: Sequence[_Need], shares: Sequence[Fraction], accelerator: Accelerator
) -> Sharing | Refusal:
    """Each server planned with its share, as it will be started."""
    parts = []
    for need, share in zip(needs, shares, strict=True):
        tenant = need.tenant
        serving = replace(
            tenant.serving, gpu_memory_utilization=share, tensor_parallel_size=1, pipeline_parallel_size=1
        )
        plan = estimate(tenant.shape, tenant.facts, serving, (_one(accelerator),))
        if isinstance(plan, Refusal):
            return replace(plan, message=f"{tenant.name}: {plan.message}")
        parts.append(
            Part(
                tenant=tenant,
                share=share,
                requested_bytes=ceil_fraction(share * accelerator.memory_bytes),
                least_bytes=need.least_bytes,
                outside_bytes=need.outside_bytes,
                plan=plan,
            )
        )
    return Sharing(accelerator=accelerator, parts=tuple(parts))


def _too_much(
    needs: Sequence[_Need], shares: Sequence[Fraction], accelerator: Accelerator, tenants: Sequence[Tenant]
) -> Refusal:
    """The sum that does not fit."""
    total = accelerator.memory_bytes
    needed = sum(_taken(share, need, total) for share, need in zip(shares, needs, strict=True))
    outside = sum(need.outside_bytes for need in needs)
    terms = " + ".join(
        f"{need.tenant.name} {_term(need, share, total)}" for need, share in zip(needs, shares, strict=True)
    )
    return Refusal(
        reason=RefusalReason.DOES_NOT_FIT,
        message=f"{terms} + {format_gib(outside)} for {len(needs)} CUDA contexts = {format_gib(needed)}, and "
        f"{accelerator.alias} has {format_gib(total)}.",
        needed_bytes=needed,
        available_bytes=total,
        would_fit=_would_fit(tenants, accelerator),
    )


def _term(need: _Need, share: Fraction, total: int) -> str:
    size = format_gib(ceil_fraction(share * total))
    if need.tenant.serving.gpu_memory_utilization is not None:
        return f"{size} (gpuMemoryUtilization {float(share):g})"
    return f"{size} (with a context of {need.context} tokens)"


def _would_fit(tenants: Sequence[Tenant], accelerator: Accelerator) -> tuple[str, ...]:
    """What was tried and does fit: shares left to the plan, a smaller cache, one server less, another card."""
    return (
        *_changed(tenants, accelerator),
        *_without_one(tenants, accelerator),
        *_on_other_cards(tenants),
    )


def _changed(tenants: Sequence[Tenant], accelerator: Accelerator) -> tuple[str, ...]:
    """The same servers on the same card with one wish less."""
    found = []
    for field, clause in (
        ("gpu_memory_utilization", "gpuMemoryUtilization left unset"),
        ("max_model_len", "maxModelLen left unset"),
        ("kv_cache_memory_bytes", "kvCacheMemory left unset"),
    ):
        if all(getattr(tenant.serving, field) is None for tenant in tenants):
            continue
        freed = [replace(one, serving=_without(one.serving, field)) for one in tenants]
        sharing = _quiet(freed, accelerator)
        if sharing is not None:
            found.append(f"{clause}: {_shares(sharing)}")
    if all(tenant.serving.kv_cache_dtype in (None, "auto") for tenant in tenants):
        eight_bit = [replace(one, serving=replace(one.serving, kv_cache_dtype="fp8")) for one in tenants]
        sharing = _quiet(eight_bit, accelerator)
        if sharing is not None:
            found.append(f"kvCacheDtype fp8: {_shares(sharing)}")
    return tuple(found)


def _without(serving: Serving, field: str) -> Serving:
    if field == "gpu_memory_utilization":
        return replace(serving, gpu_memory_utilization=None)
    if field == "max_model_len":
        return replace(serving, max_model_len=None)
    return replace(serving, kv_cache_memory_bytes=None)


def _without_one(tenants: Sequence[Tenant], accelerator: Accelerator) -> tuple[str, ...]:
    """All but one of the servers."""
    if len(tenants) < 3:  # noqa: PLR2004 - of two, one is no sharing
        return ()
    found = []
    for left_out in tenants:
        sharing = _quiet([one for one in tenants if one is not left_out], accelerator)
        if sharing is not None:
            found.append(f"without {left_out.name}: {_shares(sharing)}")
    return tuple(found)


def _on_other_cards(tenants: Sequence[Tenant]) -> tuple[str, ...]:
    """The smallest cards of the catalogue that hold all of them."""
    cards = sorted(checked_cards(), key=lambda card: card.memory_bytes)
    fits = (sharing for card in cards if (sharing := _quiet(tenants, card)) is not None)
    return tuple(
        f"one {sharing.accelerator.alias}: {_shares(sharing)}"
        for sharing, _ in zip(fits, range(_CARDS_SHOWN), strict=False)
    )


def _quiet(tenants: Sequence[Tenant], accelerator: Accelerator) -> Sharing | None:
    """Whether they fit, without looking for what else would."""
    needs = [_need(tenant, accelerator) for tenant in tenants]
    total = accelerator.memory_bytes
    claims = [need for need in needs if isinstance(need, _Need)]
    shares = [need.least_share(total) for need in claims]
    taken = sum(_taken(share, need, total) for share, need in zip(shares, claims, strict=True))
    if len(claims) < len(needs) or taken > total:
        return None
    result = _divided(claims, _with_the_rest(shares, claims, total, total - taken), accelerator)
    return result if isinstance(result, Sharing) else None


def _shares(sharing: Sharing) -> str:
    return ", ".join(
        f"{part.tenant.name} {float(part.share):g} with {part.plan.max_model_len} tokens"
        for part in sharing.parts
    )


def _one(accelerator: Accelerator) -> NodePool:
    return NodePool(name=f"1 x {accelerator.alias}", accelerator=accelerator, gpus_per_node=1, nodes=1)


def _round_up(share: Fraction) -> Fraction:
    return -(-share // _STEP) * _STEP


def _round_down(share: Fraction) -> Fraction:
    return share // _STEP * _STEP
