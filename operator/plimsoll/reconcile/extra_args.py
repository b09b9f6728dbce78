"""What the arguments that a user adds to `vllm serve` mean for the plan: reckoned with, or warned of."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from plimsoll.reconcile.problems import FieldProblem, problem
from plimsoll.sizing.engine import UnsupportedOptionError
from plimsoll.sizing.lora import LoraSlots, check_slots
from plimsoll.sizing.speculation import speculation_of, speculative_fields

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from plimsoll.sizing.serving import Serving
    from plimsoll.sizing.speculation import Speculation

_PATH: Final = "spec.engine.vllm.extraArgs"
_BLOCK_SIZE: Final = "--block-size"
_LARGEST_BLOCK: Final = 65536
_DIGITS: Final = 9
_SHOWN: Final = 80
_SWITCHES: Final[dict[str, tuple[str, bool]]] = {
    "--enforce-eager": ("enforce_eager", True),
    "--no-enforce-eager": ("enforce_eager", False),
    "--enable-prefix-caching": ("enable_prefix_caching", True),
    "--no-enable-prefix-caching": ("enable_prefix_caching", False),
    "--disable-hybrid-kv-cache-manager": ("disable_hybrid_kv_cache_manager", True),
    "--no-disable-hybrid-kv-cache-manager": ("disable_hybrid_kv_cache_manager", False),
    "--enable-expert-parallel": ("enable_expert_parallel", True),
    "--no-enable-expert-parallel": ("enable_expert_parallel", False),
    "--allow-deprecated-quantization": ("allow_deprecated_quantization", True),
    "-ep": ("enable_expert_parallel", True),
}
# The flags that together make up --speculative-config, and the field that a flag of its own sets.
_SPECULATIVE: Final = ("--speculative-config", "-sc")
_SPECULATIVE_FIELDS: Final = {
    "--spec-method": "method",
    "--spec-model": "model",
    "--spec-tokens": "num_speculative_tokens",
}
# The flags that together make up the slots for adapters: switches, and fields with a whole number.
_LORA_SWITCHES: Final[dict[str, tuple[str, bool]]] = {
    "--enable-lora": ("enabled", True),
    "--no-enable-lora": ("enabled", False),
    "--fully-sharded-loras": ("fully_sharded", True),
    "--no-fully-sharded-loras": ("fully_sharded", False),
}
_LORA_FIELDS: Final = {
    "--max-loras": "max_loras",
    "--max-lora-rank": "max_lora_rank",
    "--max-cpu-loras": "max_cpu_loras",
}
# vLLM 0.33.0, engine/arg_utils.py: what else takes memory of the card, or changes what a token takes of it.
_NOT_RECKONED: Final = (
    "--lora-dtype", "--lora-target-modules", "--enable-tower-connector-lora", "--specialize-active-lora",
    "--enable-moe-shared-loras", "--enable-mixed-moe-lora-format", "--num-gpu-blocks-override",
    "--limit-mm-per-prompt", "--mm-encoder-tp-mode", "--decode-context-parallel-size", "-dcp",
    "--prefill-context-parallel-size", "-pcp", "--mamba-cache-dtype", "--mamba-ssm-cache-dtype", "--mamba-cache-mode",
    "--mamba-block-size", "--compilation-config", "-cc", "-O", "--cudagraph-capture-sizes",
    "--max-cudagraph-capture-size", "--enable-eplb", "--kv-transfer-config", "--hf-overrides",
    "--attention-backend", "--attention-config", "--performance-mode", "--language-model-only",
    "--skip-mm-profiling", "--data-parallel-size-local", "--enable-dbo", "--async-scheduling",
    "--no-async-scheduling", "--max-num-partial-prefills", "--kv-sharing-fast-prefill",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Argument:
    """One flag with its value, where in the list it stands, and the field that follows it behind a dot."""

    flag: str
    value: str | None
    index: int
    field: str = ""


def served_with(serving: Serving, extra_args: Sequence[str]) -> Serving:
    """The wishes with those that stand in further arguments; of a flag that stands twice the last counts."""
    changes: dict[str, Any] = {}
    for argument in _arguments(extra_args):
        if argument.flag in _SWITCHES:
            field, value = _SWITCHES[argument.flag]
            changes[field] = value
        elif argument.flag == _BLOCK_SIZE and (size := _block_size(argument.value)) is not None:
            changes["block_size"] = size
    with suppress(UnsupportedOptionError):
        changes["speculative"] = _speculation(extra_args) or serving.speculative
    with suppress(UnsupportedOptionError):
        changes["lora"] = _lora(extra_args) or serving.lora
    return replace(serving, **changes)


def argument_problems(extra_args: Sequence[str]) -> Iterator[FieldProblem]:
    """Values that the engine would refuse at its start."""
    for argument in _arguments(extra_args):
        if argument.flag == _BLOCK_SIZE and _block_size(argument.value) is None:
            yield problem(
                f"{_PATH}[{argument.index}]",
                extra_args[argument.index],
                f"{_BLOCK_SIZE} takes a whole number of tokens from 1 to {_LARGEST_BLOCK}, and stands with "
                f"{'none' if argument.value is None else repr(argument.value)}; correct or remove it",
            )
    for reads, belongs in ((_speculation, _is_speculative), (_lora, _is_lora)):
        try:
            reads(extra_args)
        except UnsupportedOptionError as error:
            last = max(one.index for one in _arguments(extra_args) if belongs(one))
            yield problem(f"{_PATH}[{last}]", extra_args[last], str(error).removesuffix("."))


def argument_warnings(extra_args: Sequence[str]) -> tuple[str, ...]:
    """One sentence for each flag that changes what the engine takes and that no plan reckons with."""
    flags = dict.fromkeys(one.flag for one in _arguments(extra_args) if one.flag in _NOT_RECKONED)
    return tuple(
        f"{flag} in extraArgs changes what the engine takes, and the plan does not reckon with it: compare "
        "status.measured once it serves."
        for flag in flags
    )


def _is_speculative(argument: _Argument) -> bool:
    return argument.flag in _SPECULATIVE or argument.flag in _SPECULATIVE_FIELDS


def _speculation(extra_args: Sequence[str]) -> Speculation | None:
    """What proposes tokens: one JSON object, fields of it behind a dot, and flags of their own, as vLLM joins them.

    Raises:
        UnsupportedOptionError: they do not make up what the engine takes.
    """
    whole: dict[str, Any] = {}
    dotted: dict[str, Any] = {}
    apart: dict[str, Any] = {}
    for argument in filter(_is_speculative, _arguments(extra_args)):
        if argument.flag in _SPECULATIVE_FIELDS:
            apart[_SPECULATIVE_FIELDS[argument.flag]] = _json(argument.value)
        elif argument.field:
            dotted[argument.field] = _json(argument.value)
        else:
            whole = speculative_fields(argument.value or "")
    fields = {**(dotted or whole), **apart}  # what stands behind dots is joined, and put behind the rest
    return speculation_of(fields) if any(map(_is_speculative, _arguments(extra_args))) else None


def _is_lora(argument: _Argument) -> bool:
    return argument.flag in _LORA_SWITCHES or argument.flag in _LORA_FIELDS


def _lora(extra_args: Sequence[str]) -> LoraSlots | None:
    """Slots for adapters; without --enable-lora the engine takes no notice of the other flags.

    Raises:
        UnsupportedOptionError: a value that the engine does not take.
    """
    enabled = False
    fields: dict[str, Any] = {}
    for argument in filter(_is_lora, _arguments(extra_args)):
        if argument.flag in _LORA_FIELDS:
            fields[_LORA_FIELDS[argument.flag]] = _count(argument)
            continue
        field, value = _LORA_SWITCHES[argument.flag]
        if field == "enabled":
            enabled = value
        else:
            fields[field] = value
    if not enabled:
        return None
    slots = LoraSlots(**fields)
    check_slots(slots)
    return slots


def _count(argument: _Argument) -> int:
    """The flag's whole number.

    Raises:
        UnsupportedOptionError: it has none.
    """
    text = argument.value or ""
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise UnsupportedOptionError(
            f"{argument.flag} takes a whole number, and stands with "
            f"{'none' if argument.value is None else repr(argument.value)[:_SHOWN]}; correct or remove it."
        )
    return int(text)


def _json(text: str | None) -> object:
    """The value as vLLM reads it behind a dot: JSON, or else the text itself."""
    try:
        return json.loads(text or "")
    except (ValueError, RecursionError):
        return text


def _arguments(extra_args: Sequence[str]) -> Iterator[_Argument]:
    """Flags with their values, in any spelling that vLLM takes: `--a=b`, `--a b`, underscores for dashes."""
    for index, text in enumerate(extra_args):
        if not text.startswith("-"):
            continue
        flag, equals, joined = text.strip().partition("=")
        if flag.startswith("--"):
            flag = "--" + flag.removeprefix("--").replace("_", "-")
        following = extra_args[index + 1] if index + 1 < len(extra_args) else None
        value = joined if equals else following
        flag, _, field = flag.partition(".")
        yield _Argument(flag, value, index, field)


def _block_size(text: str | None) -> int | None:
    if text is None or not (text.isascii() and text.isdigit() and len(text) <= len(str(_LARGEST_BLOCK))):
        return None
    size = int(text)
    return size if 1 <= size <= _LARGEST_BLOCK else None
