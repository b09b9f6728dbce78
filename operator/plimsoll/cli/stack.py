"""A card that several servers share, drawn as a stack: one layer for each part of each server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.table import Table
from rich.text import Text

from plimsoll.cli.bill import refusal_lines, share_out
from plimsoll.cli.output import indented
from plimsoll.cli.together import sized_part
from plimsoll.sizing.plan import PartName, Refusal
from plimsoll.units import format_count, format_gib

if TYPE_CHECKING:
    from rich.console import RenderableType

    from plimsoll.cli.together import Together
    from plimsoll.sizing.sharing import Part, Sharing

_WIDTH: Final = 24
_ROWS: Final = 26
# Sign, sign in ASCII, style.
_WEIGHTS: Final = ("█", "W", "blue")
_CACHE: Final = ("▒", "K", "green")
_REST: Final = ("▓", "A", "yellow")
_OUTSIDE: Final = ("▞", "R", "red")
_FREE: Final = (" ", " ", "dim")
_WEIGHTS_HELD: Final = (PartName.WEIGHTS, PartName.DRAFT, PartName.LORA)
_CACHES: Final = (PartName.KV_CACHE, PartName.STATE)

_Look = tuple[str, str, str]
_Layer = tuple[_Look, int, str]  # look, bytes, what stands beside it


def stack(together: Together, *, ascii_only: bool = False) -> tuple[RenderableType, ...]:
    """Everything there is to say of several models on one card."""
    result = together.result
    names = ", ".join(one.name for one in together.deployments)
    if isinstance(result, Refusal):
        return refusal_lines(f"{names} on one GPU", result)
    card = result.accelerator
    return (
        Text(f"Together on one {card.alias} ({format_gib(card.memory_bytes)})", style="bold"),
        Text(),
        *(indented(line) for line in _picture(result, ascii_only=ascii_only)),
        Text(),
        indented(_table(result)),
        Text(),
        indented(Text(together.advice)),
        Text(),
        *(indented(Text(sized_part(part).command() or "", overflow="fold")) for part in result.parts),
    )


def note(together: Together, *, ascii_only: bool = False) -> tuple[RenderableType, ...]:
    """The same for somebody who did not ask: a refusal is no more than a sentence."""
    if isinstance(together.result, Refusal):
        return (Text(f"Not on one GPU together: {together.result.message}"),)
    return stack(together, ascii_only=ascii_only)


def _picture(sharing: Sharing, *, ascii_only: bool) -> tuple[Text, ...]:
    """The last server on top, what lies outside the shares above it."""
    blocks: list[tuple[str, list[_Layer]]] = []
    outside = sum(part.outside_bytes for part in sharing.parts)
    blocks.append(
        (
            "beside the shares",
            [
                (_FREE, sharing.free_bytes, f"free {format_gib(sharing.free_bytes)}"),
                (_OUTSIDE, outside, f"CUDA contexts {format_gib(outside)}"),
            ],
        )
    )
    blocks += [(_head(part), _layers(part)) for part in reversed(sharing.parts)]
    sizes = [size for _, layers in blocks for _, size, _ in layers]
    rows = iter(share_out(sizes, _ROWS))
    lines: list[Text] = []
    corner, line = ("+", "-") if ascii_only else ("├", "─")
    for head, layers in blocks:
        lines.append(Text(f"{corner}{line * _WIDTH}{'+' if ascii_only else '┤'} {head}"))
        for look, _, label in layers:
            lines += _drawn(look, next(rows), label, ascii_only=ascii_only)
    lines.append(Text(f"{corner}{line * _WIDTH}{'+' if ascii_only else '┤'}"))
    return tuple(lines)


def _drawn(look: _Look, rows: int, label: str, *, ascii_only: bool) -> list[Text]:
    side = "|" if ascii_only else "│"
    sign, ascii_sign, style = look
    return [
        Text.assemble(
            side,
            ((ascii_sign if ascii_only else sign) * _WIDTH, style),
            f"{side} {label if row == 0 else ''}".rstrip(),
        )
        for row in range(rows)
    ]


def _head(part: Part) -> str:
    return f"{part.tenant.name}: gpu-memory-utilization {float(part.share):g} = {format_gib(part.requested_bytes)}"


def _layers(part: Part) -> list[_Layer]:
    """Weights at the bottom, then the caches, then what comes and goes."""
    plan = part.plan
    by_name = {line.name: line.bytes for line in plan.parts}
    weights = sum(by_name.get(name, 0) for name in _WEIGHTS_HELD)
    cache = sum(by_name.get(name, 0) for name in _CACHES)
    rest = part.requested_bytes - weights - cache
    tokens = format_count(plan.kv_cache.tokens)
    return [
        (_REST, rest, f"activations, graphs, runtime {format_gib(rest)}"),
        (_CACHE, cache, f"KV cache {format_gib(cache)}, {tokens} tokens"),
        (_WEIGHTS, weights, f"weights {format_gib(weights)}"),
    ]


def _table(sharing: Sharing) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    table.add_column("Server")
    for heading in ("Share", "GiB", "At least", "Context", "KV tokens", "At once"):
        table.add_column(heading, justify="right", no_wrap=True)
    for part in sharing.parts:
        cache = part.plan.kv_cache
        table.add_row(
            part.tenant.name,
            f"{float(part.share):g}",
            _gib(part.requested_bytes),
            _gib(part.least_bytes),
            format_count(part.plan.max_model_len),
            format_count(cache.tokens),
            f"{float(cache.max_concurrency):.2f}",
        )
    total = sum(part.share for part in sharing.parts)
    table.add_row(
        Text("all", style="bold"),
        f"{float(total):g}",
        _gib(sum(part.requested_bytes for part in sharing.parts)),
        _gib(sum(part.least_bytes for part in sharing.parts)),
    )
    return table


def _gib(size_bytes: int) -> str:
    return format_gib(size_bytes).removesuffix(" GiB")
