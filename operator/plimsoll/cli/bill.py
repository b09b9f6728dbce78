"""The bill of an estimate as a person reads it: a bar with the load line, the parts, the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich.table import Table
from rich.text import Text

from plimsoll.cli.output import INDENT, indented
from plimsoll.sizing.plan import ComponentResources, HostResources, Part, PartName, Plan, Refusal
from plimsoll.sizing.times import DOWNLOAD_RATE, LOAD_RATE, expected_times
from plimsoll.units import bytes_quantity, format_count, format_duration, format_gib, millicores_quantity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from plimsoll.cli.sized import Sized


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """How a part is drawn: told apart by its sign where there is no colour, and by a letter in ASCII."""

    sign: str
    ascii_sign: str
    style: str
    label: str


_LOOKS: Final[dict[PartName, _Look]] = {
    PartName.WEIGHTS: _Look(sign="█", ascii_sign="W", style="blue", label="weights"),
    PartName.DRAFT: _Look(sign="▦", ascii_sign="D", style="bright_blue", label="draft"),
    PartName.LORA: _Look(sign="▧", ascii_sign="L", style="bright_cyan", label="LoRA slots"),
    PartName.KV_CACHE: _Look(sign="▒", ascii_sign="K", style="green", label="KV cache"),
    PartName.STATE: _Look(sign="▤", ascii_sign="S", style="cyan", label="state"),
    PartName.ACTIVATIONS: _Look(sign="▓", ascii_sign="A", style="yellow", label="activations"),
    PartName.GRAPHS: _Look(sign="▚", ascii_sign="G", style="magenta", label="CUDA graphs"),
    PartName.RUNTIME: _Look(sign="▞", ascii_sign="R", style="red", label="runtime"),
    PartName.MARGIN: _Look(sign="░", ascii_sign="-", style="dim", label="margin"),
}
_BEYOND: Final = _Look(sign="·", ascii_sign=".", style="dim", label="beyond the load line")


def bill(sized: Sized, *, width: int, ascii_only: bool = False) -> tuple[RenderableType, ...]:
    """Everything there is to say of one estimate, in the order in which it is read."""
    if isinstance(sized.result, Refusal):
        return refusal_lines(sized.facts.model_id, sized.result)
    plan = sized.result
    return (
        Text(_headline(plan), style="bold"),
        Text(),
        *_picture(plan, width - 2 * INDENT, ascii_only=ascii_only),
        Text(),
        indented(_parts_table(plan, ascii_only=ascii_only)),
        Text(),
        *_verdict(plan, pinned=sized.serving.concurrency is not None),
        Text(),
        indented(host_table(plan.resources)),
        *_warnings(sized.notes()),
        *_command(sized),
    )


def refusal_lines(model_id: str, refusal: Refusal) -> tuple[RenderableType, ...]:
    """The refusal: the sentence, the bytes, and what would fit."""
    lines: list[RenderableType] = [
        Text.assemble(("Refused", "bold red"), f" ({refusal.reason.value}): {model_id}"),
        indented(Text(refusal.message)),
    ]
    if refusal.needed_bytes is not None and refusal.available_bytes is not None:
        lines += [Text(), indented(_shortage_table(refusal.needed_bytes, refusal.available_bytes))]
    if refusal.would_fit:
        lines += [Text(), Text("What would fit:", style="bold")]
        lines += [indented(_item(clause)) for clause in refusal.would_fit]
    return tuple(lines)


def host_table(resources: ComponentResources) -> Table:
    """CPU and host memory of the three pods, with the reason."""
    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    for heading in ("Pod", "CPU", "Memory", "Because"):
        table.add_column(heading, no_wrap=heading != "Because")
    for name, need in (
        ("download", resources.download),
        ("server", resources.server),
        ("test", resources.test),
    ):
        table.add_row(name, _cpu(need), _memory(need), need.reason)
    return table


def _headline(plan: Plan) -> str:
    card = plan.pool.accelerator
    on = "CPU" if card is None else f"{plan.gpus} x {card.alias} ({format_gib(card.memory_bytes)} each)"
    return f"{plan.model_id} on {on}, vLLM {plan.engine_version}"


def _picture(plan: Plan, width: int, *, ascii_only: bool) -> tuple[RenderableType, ...]:
    """One GPU as a bar, and under it the load line."""
    card = plan.pool.accelerator
    total = card.memory_bytes if card is not None else plan.usable_bytes
    shown = [(_LOOKS[part.name], part.bytes) for part in plan.parts if part.bytes > 0]
    beyond = total - sum(size for _, size in shown)
    if beyond > 0:
        shown.append((_BEYOND, beyond))
    bar = Text()
    for (look, _), cells in zip(shown, share_out([size for _, size in shown], width), strict=True):
        bar.append((look.ascii_sign if ascii_only else look.sign) * cells, style=look.style)
    line = f"load line {format_gib(plan.usable_bytes)}"
    if plan.kv_cache_memory_bytes is not None and card is not None:
        line += f" of {format_gib(total)}"
    elif card is not None:
        line += f" = {float(plan.gpu_memory_utilization):g} of {format_gib(total)}"
    at = min(width - 1, width * plan.usable_bytes // total) if total else 0
    mark = "^" if ascii_only else "▲"
    text = f"{line} {mark}".rjust(at + 1) if at + 1 >= len(line) + 2 else " " * at + f"{mark} {line}"
    return indented(bar), indented(Text(text))


def share_out(sizes: Sequence[int], cells: int) -> tuple[int, ...]:
    """Share the cells out by size, largest remainder first; nothing that is there vanishes."""
    total = sum(sizes)
    if not total or cells < len(sizes):
        return tuple(0 for _ in sizes)
    shares = [max(1, cells * size // total) if size else 0 for size in sizes]
    while sum(shares) > cells:
        shares[shares.index(max(shares))] -= 1
    by_remainder = sorted(range(len(sizes)), key=lambda i: (-(cells * sizes[i] % total), i))
    for index in by_remainder[: cells - sum(shares)]:
        shares[index] += 1
    return tuple(shares)


def _parts_table(plan: Plan, *, ascii_only: bool) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    table.add_column("Per GPU" if plan.gpus else "In host memory", no_wrap=True)
    table.add_column("GiB", justify="right", no_wrap=True)
    table.add_column("Bytes", justify="right", no_wrap=True)
    table.add_column("Source", overflow="fold")
    for part in plan.parts:
        if not part.bytes:
            continue
        look = _LOOKS[part.name]
        name = Text.assemble((look.ascii_sign if ascii_only else look.sign, look.style), f" {look.label}")
        table.add_row(name, _interval(part), format_count(part.bytes), part.source)
    table.add_row(
        Text("= load line", style="bold"),
        _plain_gib(plan.usable_bytes),
        format_count(plan.usable_bytes),
        _line_source(plan),
    )
    return table


def _line_source(plan: Plan) -> str:
    card = plan.pool.accelerator
    if card is None:
        return "host memory that the engine plans with"
    if plan.kv_cache_memory_bytes is not None:
        return (
            f"kvCacheMemory is held against the card's {format_count(card.memory_bytes)} bytes; {card.source}"
        )
    share = f"{float(plan.gpu_memory_utilization):g}"
    return f"gpu_memory_utilization {share} of {format_count(card.memory_bytes)} bytes; {card.source}"


def _interval(part: Part) -> str:
    """What is modelled shows both ends; the plan reckons with the second."""
    low, high = _plain_gib(part.low_bytes), _plain_gib(part.bytes)
    return high if low == high or part.low_bytes == part.bytes else f"{low}-{high}"


def _plain_gib(size_bytes: int) -> str:
    return format_gib(size_bytes).removesuffix(" GiB")


def _verdict(plan: Plan, *, pinned: bool) -> tuple[RenderableType, ...]:
    cache = plan.kv_cache
    gpus = "CPU only" if not plan.gpus else _count(plan.gpus, "GPU")
    split = f"TP {plan.tensor_parallel_size}, PP {plan.pipeline_parallel_size}, " if plan.gpus else ""
    table = Table(box=None, pad_edge=False, show_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_row("Context", f"{format_count(plan.max_model_len)} tokens, limited by {plan.limited_by}")
    table.add_row(
        "KV cache",
        f"{format_count(cache.tokens)} tokens: {format_count(cache.blocks)} blocks of {cache.block_size}, "
        f"{format_count(cache.bytes_per_token_per_gpu)} bytes per token{' on each GPU' if plan.gpus else ''}",
    )
    likely = plan.expected_kv_cache
    if likely is not None and likely.tokens != cache.tokens:
        table.add_row(
            "Likely", f"{format_count(likely.tokens)} tokens: what the engine is expected to report"
        )
    table.add_row("At once", f"{float(cache.max_concurrency):.2f} requests of full length")
    if pinned and plan.pinned_kv_cache_bytes is not None:
        held = f"just {plan.concurrency} of them: --kv-cache-memory-bytes {plan.pinned_kv_cache_bytes}"
        table.add_row(
            "Pinned", f"{format_gib(plan.pinned_kv_cache_bytes)} of KV cache on each GPU hold {held}"
        )
    table.add_row("Expect", _times(plan))
    return (
        Text.assemble(("Fits", "bold green"), f": {split}{gpus} on {_count(plan.nodes, 'node')}."),
        indented(table),
    )


def _times(plan: Plan) -> str:
    """Both rates are stated with their times, since nobody measured them here."""
    times = expected_times(plan.weights_bytes)
    return (
        f"a download of {format_duration(times.download_seconds)} at {DOWNLOAD_RATE}, and "
        f"{format_duration(times.load_seconds)} of loading at {LOAD_RATE}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _cpu(need: HostResources) -> str:
    request, limit = need.cpu_request_millicores, need.cpu_limit_millicores
    return f"{millicores_quantity(request)} / {millicores_quantity(limit)}"


def _memory(need: HostResources) -> str:
    return f"{bytes_quantity(need.memory_request_bytes)} / {bytes_quantity(need.memory_limit_bytes)}"


def _shortage_table(needed: int, available: int) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False, show_header=False)
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    rows = [("needed", needed), ("available", available)]
    if needed > available:
        rows.append(("short", needed - available))
    for name, size in rows:
        table.add_row(name, f"{format_gib(size)} per GPU", f"{format_count(size)} bytes")
    return table


def _warnings(sentences: Sequence[str]) -> tuple[RenderableType, ...]:
    if not sentences:
        return ()
    return (
        Text(),
        Text("Please note:", style="bold yellow"),
        *(indented(_item(sentence)) for sentence in sentences),
    )


def _item(sentence: str) -> Table:
    """A list item with a hanging indent."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column()
    grid.add_row("-", sentence)
    return grid


def _command(sized: Sized) -> tuple[RenderableType, ...]:
    lines = sized.command_lines()
    if not lines:
        return ()
    text = Text(" \\\n    ".join(lines), no_wrap=True, overflow="ignore")
    return Text(), Text("Run it:", style="bold"), indented(text)
