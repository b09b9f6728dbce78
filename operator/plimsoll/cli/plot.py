"""The bill as a picture: one bar for a GPU of each choice of hardware, with its load line, as SVG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

from plimsoll.sizing.plan import PartName, Plan, Refusal
from plimsoll.units import GIB, format_count, format_gib

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from plimsoll.cli.sized import Sized

_FILLS: Final[
    dict[PartName, tuple[str, str]]
] = {  # colours that stay apart for the colour-blind (Okabe, Ito)
    PartName.WEIGHTS: ("#0072b2", "weights"),
    PartName.DRAFT: ("#f0e442", "draft"),
    PartName.LORA: ("#999999", "LoRA slots"),
    PartName.KV_CACHE: ("#009e73", "KV cache"),
    PartName.STATE: ("#56b4e9", "state"),
    PartName.ACTIVATIONS: ("#e69f00", "activations"),
    PartName.GRAPHS: ("#cc79a7", "CUDA graphs"),
    PartName.RUNTIME: ("#d55e00", "runtime"),
    PartName.MARGIN: ("#d9d9d9", "margin"),
}
_NEEDED: Final = "#dd8f9b"
_INK: Final = "#1b1b1b"
_PAPER: Final = "#ffffff"
_AXIS, _TOP, _HEIGHT, _BAR, _SLOT, _FOOT, _RIGHT = 64, 72, 300, 72, 148, 74, 24
_LEGEND_STEP: Final = 108
_TICKS: Final = 5
_TICK_STEPS_GIB: Final = (1, 2, 4, 5, 8, 10, 16, 20, 32, 40, 50, 64, 100, 128, 200, 256, 500, 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    """Bytes to the height on the page; y grows downwards."""

    most_bytes: int

    def y(self, size_bytes: int) -> float:
        return round(_TOP + _HEIGHT - _HEIGHT * size_bytes / self.most_bytes, 2)


def picture(sized: Sequence[Sized]) -> str:
    """An SVG document with a bar for each estimate, in the order given."""
    scale = _Scale(most_bytes=max(*map(_tallest, sized), 1))
    width = max(_AXIS + _SLOT * len(sized) + _RIGHT, _AXIS + _LEGEND_STEP * len(_shown(sized)) + _RIGHT)
    height = _TOP + _HEIGHT + _FOOT
    first = sized[0]
    title = f"{first.facts.model_id}, vLLM {first.serving.engine_version}: memory of one GPU"
    body = [
        _text(_AXIS, 24, title, size=15, weight="bold"),
        *_legend(sized),
        *_axis(scale, width),
        *(line for index, one in enumerate(sized) for line in _bar(one, _AXIS + _SLOT * index, scale)),
    ]
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" role="img"',
            f'viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif">',
            f"<title>{escape(title)}</title>",
            f'<rect width="{width}" height="{height}" fill="{_PAPER}"/>',
            *body,
            "</svg>",
            "",
        )
    )


def _tallest(one: Sized) -> int:
    """What must be on the page for this bar."""
    card = one.accelerator
    total = card.memory_bytes if card is not None else 0
    if isinstance(one.result, Plan):
        return max(total, one.result.usable_bytes)
    return max(total, one.result.needed_bytes or 0)


def _shown(sized: Sequence[Sized]) -> tuple[tuple[str, str], ...]:
    """Colour and label of what appears in any bar."""
    plans = [one.result for one in sized if isinstance(one.result, Plan)]
    there = {part.name for plan in plans for part in plan.parts if part.bytes > 0}
    shown = tuple(look for name, look in _FILLS.items() if name in there)
    refused = any(isinstance(one.result, Refusal) and one.result.needed_bytes for one in sized)
    return (*shown, (_NEEDED, "needed")) if refused else shown


def _legend(sized: Sequence[Sized]) -> Iterator[str]:
    for index, (fill, label) in enumerate(_shown(sized)):
        x = _AXIS + _LEGEND_STEP * index
        yield _rect(x, 38, 12, 12, fill)
        yield _text(x + 18, 49, label)


def _axis(scale: _Scale, width: int) -> Iterator[str]:
    most_gib = scale.most_bytes / GIB
    step = next((step for step in _TICK_STEPS_GIB if most_gib / step <= _TICKS), _TICK_STEPS_GIB[-1])
    for gib in range(0, int(most_gib) + 1, step):
        y = scale.y(gib * GIB)
        yield f'<line x1="{_AXIS - 8}" x2="{width - _RIGHT}" y1="{y}" y2="{y}" stroke="#e4e4e4"/>'
        yield _text(_AXIS - 12, y + 4, f"{gib} GiB", anchor="end")


def _bar(one: Sized, left: int, scale: _Scale) -> Iterator[str]:
    """The card's whole memory as an outline, what fills it from below, and the load line."""
    x = left + (_SLOT - _BAR) / 2
    middle = x + _BAR / 2
    base = scale.y(0)
    card = one.accelerator
    if isinstance(one.result, Plan):
        plan = one.result
        yield from _stack(plan, x, scale)
        yield from _load_line(plan.usable_bytes, x, scale)
        head = f"{plan.gpus} x {card.alias}" if card is not None else "CPU"
        lines = [
            f"TP {plan.tensor_parallel_size}, PP {plan.pipeline_parallel_size}"
            if plan.gpus
            else "host memory",
            f"{format_count(plan.max_model_len)} tokens",
        ]
    else:
        refusal = one.result
        if refusal.needed_bytes:
            top = scale.y(refusal.needed_bytes)
            tooltip = f"needed: {format_gib(refusal.needed_bytes)} per GPU"
            yield _rect(x, top, _BAR, round(base - top, 2), _NEEDED, tooltip=tooltip)
        if refusal.available_bytes:
            yield from _load_line(refusal.available_bytes, x, scale)
        head = card.alias if card is not None else "no card"
        lines = ["refused", refusal.reason.value]
    if card is not None:
        top = scale.y(card.memory_bytes)
        yield (
            f'<rect x="{x}" y="{top}" width="{_BAR}" height="{round(base - top, 2)}" fill="none" stroke="{_INK}"/>'
        )
    yield _text(middle, base + 20, head, anchor="middle", weight="bold")
    for index, line in enumerate(lines):
        yield _text(middle, base + 38 + 16 * index, line, anchor="middle")


def _stack(plan: Plan, x: float, scale: _Scale) -> Iterator[str]:
    below = 0
    for part in plan.parts:
        if part.bytes <= 0:
            continue
        fill, label = _FILLS[part.name]
        top, bottom = scale.y(below + part.bytes), scale.y(below)
        tooltip = f"{label}: {format_gib(part.bytes)}"
        yield _rect(x, top, _BAR, round(bottom - top, 2), fill, tooltip=tooltip)
        below += part.bytes


def _load_line(usable_bytes: int, x: float, scale: _Scale) -> Iterator[str]:
    """The mark on a ship's side: a line through a circle."""
    y = scale.y(usable_bytes)
    right = x + _BAR + 16
    yield f'<line x1="{x - 8}" x2="{right + 8}" y1="{y}" y2="{y}" stroke="{_INK}" stroke-width="2"/>'
    yield f'<circle cx="{right}" cy="{y}" r="5" fill="none" stroke="{_INK}" stroke-width="2"/>'
    yield _text(right + 8, y - 8, f"{usable_bytes / GIB:.1f}", anchor="end", size=11)


def _rect(x: float, y: float, width: float, height: float, fill: str, *, tooltip: str = "") -> str:
    start = f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{fill}"'
    return f"{start}><title>{escape(tooltip)}</title></rect>" if tooltip else f"{start}/>"


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", size: int = 12, weight: str = "normal"
) -> str:
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" '
        f'fill="{_INK}">{escape(text)}</text>'
    )
