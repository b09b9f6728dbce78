"""What the arguments that a user adds to `vllm serve` mean for the plan: reckoned with, or warned of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from plimsoll.reconcile.problems import FieldProblem, problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from plimsoll.sizing.serving import Serving

_PATH: Final = "spec.engine.vllm.extraArgs"
_BLOCK_SIZE: Final = "--block-size"
_LARGEST_BLOCK: Final = 65536
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
# vLLM 0.33.0, engine/arg_utils.py: what else takes memory of the card, or changes what a token takes of it.
_NOT_RECKONED: Final = (
    "--speculative-config", "-sc", "--enable-lora", "--max-loras", "--max-lora-rank", "--num-gpu-blocks-override",
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
    """One flag with its value, and where in the list it stands."""

    flag: str
    value: str | None
    index: int


def served_with(serving: Serving, extra_args: Sequence[str]) -> Serving:
    """The wishes with those that stand in further arguments; of a flag that stands twice the last counts."""
    changes: dict[str, Any] = {}
    for argument in _arguments(extra_args):
        if argument.flag in _SWITCHES:
            field, value = _SWITCHES[argument.flag]
            changes[field] = value
        elif argument.flag == _BLOCK_SIZE and (size := _block_size(argument.value)) is not None:
            changes["block_size"] = size
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


def argument_warnings(extra_args: Sequence[str]) -> tuple[str, ...]:
    """One sentence for each flag that changes what the engine takes and that no plan reckons with."""
    flags = dict.fromkeys(one.flag for one in _arguments(extra_args) if one.flag in _NOT_RECKONED)
    return tuple(
        f"{flag} in extraArgs changes what the engine takes, and the plan does not reckon with it: compare "
        "status.measured once it serves."
        for flag in flags
    )


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
        yield _Argument(flag.split(".", 1)[0], value, index)


def _block_size(text: str | None) -> int | None:
    if text is None or not (text.isascii() and text.isdigit() and len(text) <= len(str(_LARGEST_BLOCK))):
        return None
    size = int(text)
    return size if 1 <= size <= _LARGEST_BLOCK else None
