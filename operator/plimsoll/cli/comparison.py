"""One model on several GPUs, side by side: what fits, smallest first, and what does not, with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from plimsoll.cli.output import indented
from plimsoll.sizing.plan import Plan, Refusal
from plimsoll.units import format_count, format_gib, format_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from plimsoll.cli.sized import Sized


def best(sized: Sequence[Sized]) -> Sized:
    """The one that fits with the least GPU memory in all; if none fits, the refusal that came closest."""
    fitting = by_memory(sized)
    return fitting[0] if fitting else min(sized, key=_shortage)


def by_memory(sized: Sequence[Sized]) -> tuple[Sized, ...]:
    """Those that fit, by the GPU memory that they take in all, then by the number of GPUs."""
    return tuple(sorted((one for one in sized if isinstance(one.result, Plan)), key=_memory))


def comparison(sized: Sequence[Sized]) -> tuple[RenderableType, ...]:
    """A table of what fits and a list of what does not."""
    fitting = by_memory(sized)
    refused = [one for one in sized if isinstance(one.result, Refusal)]
    facts = sized[0].facts
    lines: list[RenderableType] = [
        Text(f"{facts.model_id}, vLLM {sized[0].serving.engine_version}", style="bold"),
        Text(),
    ]
    if fitting:
        lines += [Text("Fits, smallest first:", style="bold green"), indented(_table(fitting)), Text()]
    if refused:
        lines += _refusals(refused)
    if fitting:
        lines.append(Text(f"See the whole bill with --gpu {_name(fitting[0])}."))
    return tuple(lines)


def _refusals(refused: Sequence[Sized]) -> list[RenderableType]:
    """The refusals; one sentence where every GPU gives the same."""
    messages = {one.result.message for one in refused if isinstance(one.result, Refusal)}
    if len(messages) == 1 and len(refused) > 1:
        return [Text("Refused:", style="bold red"), indented(Text(messages.pop())), Text()]
    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    table.add_column("GPU", no_wrap=True)
    table.add_column("Needed", justify="right", no_wrap=True)
    table.add_column("There", justify="right", no_wrap=True)
    table.add_column("Because")
    for one in refused:
        assert isinstance(one.result, Refusal)
        needed, available = one.result.needed_bytes, one.result.available_bytes
        table.add_row(
            _name(one),
            "" if needed is None else format_gib(needed),
            "" if available is None else format_gib(available),
            one.result.reason.value,
        )
    return [Text("Refused, per GPU:", style="bold red"), indented(table), Text()]


def _table(fitting: Sequence[Sized]) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    table.add_column("GPU", no_wrap=True)
    for heading in ("GPUs", "TP", "PP", "Nodes", "Context", "KV tokens", "At once", "Weights/GPU"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in fitting:
        plan = one.result
        assert isinstance(plan, Plan)
        weights = sum(part.bytes for part in plan.parts if part.name in ("weights", "draft", "lora"))
        table.add_row(
            _name(one),
            str(plan.gpus),
            str(plan.tensor_parallel_size),
            str(plan.pipeline_parallel_size),
            str(plan.nodes),
            format_count(plan.max_model_len),
            format_count(plan.kv_cache.tokens),
            f"{float(plan.kv_cache.max_concurrency):.1f}",
            format_size(weights),
        )
    return table


def _name(one: Sized) -> str:
    card = one.accelerator
    return "CPU" if card is None else card.alias


def _memory(one: Sized) -> tuple[int, int]:
    assert isinstance(one.result, Plan)
    card = one.accelerator
    return one.result.gpus * (card.memory_bytes if card else 0), one.result.gpus


def _shortage(one: Sized) -> tuple[bool, int]:
    """How far from fitting; a refusal that is not about bytes comes last."""
    assert isinstance(one.result, Refusal)
    needed, available = one.result.needed_bytes, one.result.available_bytes
    if needed is None or available is None:
        return True, 0
    return False, needed - available
