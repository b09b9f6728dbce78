"""What `plimsoll try` shows: a table of stages that lives, each plan as a bill, and events in plain words."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from plimsoll import api
from plimsoll.api.conditions import TERMINAL_REASONS, ConditionType, Reason
from plimsoll.sandbox.expectations import condition
from plimsoll.units import format_count, format_gib

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from plimsoll.sandbox.trial import Result, Snapshot

STAGES: Final = (
    ConditionType.SIZED,
    ConditionType.DOWNLOADED,
    ConditionType.LOADED,
    ConditionType.TESTED,
    ConditionType.AVAILABLE,
    ConditionType.READY,
)
_BAR_CHARACTERS: Final = 48
_NAME_CHARACTERS: Final = 32
_SEEN_CHARACTERS: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    sign: str
    style: str
    label: str


_PARTS: Final[Mapping[str, _Look]] = MappingProxyType(
    {
        "weights": _Look(sign="█", style="blue", label="weights"),
        "kv_cache": _Look(sign="▒", style="green", label="KV cache"),
        "state": _Look(sign="▤", style="cyan", label="state"),
        "activations": _Look(sign="▓", style="yellow", label="activations"),
        "graphs": _Look(sign="▚", style="magenta", label="CUDA graphs"),
        "runtime": _Look(sign="▞", style="red", label="runtime"),
        "margin": _Look(sign="░", style="dim", label="margin"),
    }
)


def full_name(item: Mapping[str, Any]) -> str:
    """`name`, or `namespace/name` outside the namespace default."""
    metadata = item["metadata"]
    namespace = metadata.get("namespace", "default")
    return str(metadata["name"]) if namespace == "default" else f"{namespace}/{metadata['name']}"


def stage_table(deployments: Sequence[Mapping[str, Any]]) -> Table:
    """One row per ModelDeployment: its stages, and in words what it does or waits for."""
    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    names = [full_name(deployment) for deployment in deployments]
    # Fixed widths: the last column takes what is left, and is cut there.
    table.add_column(
        "Model", no_wrap=True, width=min(_NAME_CHARACTERS, max(map(len, names), default=len("Model")))
    )
    for stage in STAGES:
        table.add_column(stage.value, justify="center", width=len(stage.value))
    table.add_column("Now", overflow="ellipsis", no_wrap=True, ratio=1)
    for deployment in sorted(deployments, key=full_name):
        found = {stage: condition(deployment, stage) for stage in STAGES}
        table.add_row(full_name(deployment), *(_mark(found[stage]) for stage in STAGES), _now(found))
    return table


def bill(deployment: Mapping[str, Any]) -> tuple[Text, ...]:
    """The plan of a ModelDeployment as a bar and two lines."""
    plan = deployment["status"]["plan"]
    hardware = plan.get("hardware") or {}
    parts = [part for part in plan["perGpu"] if part["bytes"] > 0]
    total = hardware.get("memoryBytes") or sum(part["bytes"] for part in parts)
    where = f"{plan['gpus']} x {hardware.get('product')}" if plan["gpus"] else "CPU only"
    bar = Text("  ")
    for part in parts:
        look = _look(part["part"])
        bar.append(look.sign * round(part["bytes"] * _BAR_CHARACTERS / total), style=look.style)
    bar.append("·" * max(0, _BAR_CHARACTERS + 2 - len(bar)), style="dim")
    bar.append(f"  {format_gib(total)}")
    listed = ", ".join(f"{_look(part['part']).label} {format_gib(part['bytes'])}" for part in parts)
    return (
        Text.assemble((full_name(deployment), "bold"), f": {plan['modelId']} on {where}"),
        bar,
        Text(f"  {listed}"),
        Text(
            f"  context {format_count(plan['maxModelLen'])} tokens, limited by {plan['limitedBy']}; "
            f"KV cache {format_count(plan['kvCacheTokens'])} tokens"
        ),
    )


def result_table(results: Sequence[Result]) -> Table:
    """How each example stands; where it is not as promised, what was seen instead."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("", "Example", "After"):
        table.add_column(title, no_wrap=True)
    table.add_column("State", overflow="fold")
    for result in results:
        mark = Text("ok", style="green") if result.finding.met else Text("FAILED", style="bold red")
        after = "" if result.seconds is None else f"{result.seconds:.0f} s"
        seen = _short(result.finding.seen)
        state = seen if result.finding.met else f"promised {result.example.expectation}; seen: {seen}"
        table.add_row(mark, result.example.path.name, after, state)
    return table


class News:
    """What is new in a snapshot: bills and events that were not told yet."""

    def __init__(self) -> None:
        """Nothing was told yet."""
        self._bills: set[tuple[str, str]] = set()
        self._events: set[tuple[str, int]] = set()
        self._said: dict[str, str] = {}

    def bills(self, snapshot: Snapshot) -> list[tuple[Text, ...]]:
        """The plans that were not shown yet."""
        fresh = []
        for deployment in sorted(snapshot.deployments, key=full_name):
            plan = (deployment.get("status") or {}).get("plan")
            if plan is None:
                continue
            key = (deployment["metadata"]["uid"], plan["inputsHash"])
            if key not in self._bills:
                self._bills.add(key)
                fresh.append(bill(deployment))
        return fresh

    def events(self, snapshot: Snapshot) -> list[Text]:
        """The events on ModelDeployments that were not told yet, oldest first, in plain words."""
        fresh = []
        for event in sorted(snapshot.events, key=_when):
            about = event["involvedObject"]
            key = (event["metadata"]["uid"], (event.get("series") or {}).get("count", event.get("count", 1)))
            if about.get("kind") != api.KIND or key in self._events:
                continue
            self._events.add(key)
            name, message = full_name({"metadata": about}), str(event.get("message", ""))
            if self._said.get(name) == message:  # two reasons for one piece of news
                continue
            self._said[name] = message
            style = "yellow" if event.get("type") == "Warning" else "dim"
            fresh.append(Text.assemble((f"{name}: ", "bold"), (message, style)))
        return fresh


class Screen(AbstractContextManager["Screen"]):
    """The terminal: on a real one the table lives, elsewhere the news come as lines."""

    def __init__(self, console: Console) -> None:
        """Take the console to write to."""
        self._console = console
        self._news = News()
        self._started = time.monotonic()
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> Self:
        """Begin."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last table on the screen."""
        if self._live is not None:
            self._live.stop()

    def say(self, text: RenderableType) -> None:
        """Write above the table; the terminal wraps long lines, so that they can be copied whole."""
        self._console.print(text, soft_wrap=True)

    def show(self, snapshot: Snapshot, footer: str = "") -> None:
        """Write what is new, and the table as it is now."""
        for lines in self._news.bills(snapshot):
            self._console.print(Group(*lines))
        for line in self._news.events(snapshot):
            stamp = Text(f"{time.monotonic() - self._started:5.1f} s  ", style="dim")
            self._console.print(Text.assemble(stamp, line), soft_wrap=True)
        if self._live is not None:
            table = stage_table(snapshot.deployments)
            self._live.update(Group(Text(), table, Text(footer, style="dim")), refresh=True)


def _look(part: str) -> _Look:
    return _PARTS.get(part, _Look(sign="?", style="", label=part))


def _short(text: str) -> str:
    return text if len(text) <= _SEEN_CHARACTERS else f"{text[: _SEEN_CHARACTERS - 3]}..."


def _mark(found: Mapping[str, Any] | None) -> Text:
    if found is None:
        return Text("·", style="dim")
    if found["status"] == "True":
        return Text("✔", style="green")
    if found["reason"] in (Reason.WAITING, Reason.PROGRESSING):
        return Text("·", style="dim")
    if found["reason"] in TERMINAL_REASONS:
        return Text("✗", style="bold red")
    return Text("…", style="yellow")


def _now(found: Mapping[ConditionType, Mapping[str, Any] | None]) -> str:
    ready = found[ConditionType.READY]
    if ready is None:
        return ""
    return "Ready" if ready["status"] == "True" else f"{ready['reason']}: {ready['message']}"


def _when(event: Mapping[str, Any]) -> str:
    return str(
        event.get("eventTime") or event.get("lastTimestamp") or event["metadata"].get("creationTimestamp", "")
    )
