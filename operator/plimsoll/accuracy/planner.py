"""From a line of a table to the launch that it describes, or to why sizing refuses it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from plimsoll.accuracy.checkpoints import beside_config
from plimsoll.accuracy.reading import InputError, Record, without_notes
from plimsoll.sizing import gpus
from plimsoll.sizing.accelerators import NodePool
from plimsoll.sizing.draft import check_speculation, draft_of
from plimsoll.sizing.engine import UnsupportedOptionError, parse_version
from plimsoll.sizing.errors import UnsupportedModelError
from plimsoll.sizing.facts import ModelFacts
from plimsoll.sizing.options import check_serving
from plimsoll.sizing.plan import RefusalReason
from plimsoll.sizing.rules import HardwareCannotError, precision_for
from plimsoll.sizing.search import Placement, Search
from plimsoll.sizing.serving import Serving
from plimsoll.sizing.shape import shape_from_facts
from plimsoll.sizing.speculation import speculation_of
from plimsoll.sizing.weights import tensor_parallel_problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from plimsoll.sizing.accelerators import Accelerator
    from plimsoll.sizing.launch import Launch
    from plimsoll.sizing.model import ModelShape

_CARDS: Final = {"h100-80": "H100", "a100-80": "A100-80GB", "h200": "H200", "b200": "B200"}
_FLAGS: Final = (
    "enable_prefix_caching",
    "enable_expert_parallel",
    "enforce_eager",
    "disable_hybrid_kv_cache_manager",
    "allow_deprecated_quantization",
)
_COUNTS: Final = ("max_num_batched_tokens", "max_num_seqs", "block_size")
_SPECULATIVE: Final = "speculative_config"
_MOST_RANKS: Final = 4096
_MOST: Final = 2**40
_WITHOUT_BYTES: Final = {"trust_remote_code"}


@dataclass(frozen=True, slots=True)
class No:
    """Our refusal."""

    reason: RefusalReason
    message: str


class Planner:
    """From lines to launches; a config is read into a shape once."""

    def __init__(self, find: Callable[[str], Mapping[str, Any] | None]) -> None:
        """`find` gives a config by the name of its file."""
        self._find = find
        self._shapes: dict[tuple[str, str, bool], ModelShape | No] = {}
        self.found_config = False

    def launch(self, record: Record) -> Launch | No:
        """The launch that the line describes, or why sizing refuses it."""
        shape = self._shape(record)
        if isinstance(shape, No):
            return self._heads_first(record) or shape
        card = _card(record)
        try:
            serving = _serving(record)
            version = parse_version(serving.engine_version)
            check_serving(serving, version)
            check_speculation(shape, serving)
            precision = precision_for(shape, serving, card, version)
            tensor_size = record.count("tp", least=1, most=_MOST_RANKS)
            stages = record.count("pp", least=1, most=len(shape.layers))
            problem = tensor_parallel_problem(
                shape,
                tensor_size,
                precision.quantization,
                expert_parallel=serving.enable_expert_parallel,
                draft=draft_of(shape, serving),
            )
            if problem is None and stages > 1:
                problem = shape.stages_problem
            if problem is not None:
                return No(RefusalReason.NOT_DIVISIBLE, problem)
            placement = Placement(
                pool=NodePool(name=card.alias, accelerator=card, gpus_per_node=tensor_size * stages, nodes=1),
                accelerator=card,
                precision=precision,
                tensor_parallel_size=tensor_size,
                pipeline_parallel_size=stages,
                nodes=1,
            )
            return Search(shape, serving, version).launch(placement)
        except UnsupportedModelError as problem:
            return No(RefusalReason.UNSUPPORTED_MODEL, str(problem))
        except UnsupportedOptionError as problem:
            return No(RefusalReason.UNSUPPORTED_OPTION, str(problem))
        except HardwareCannotError as problem:
            return No(RefusalReason.HARDWARE_CANNOT, str(problem))

    def _heads_first(self, record: Record) -> No | None:
        """VLLM looks at attention heads before it reads a quantization."""
        config = self._find(_config_name(record)) or {}
        heads, tensor_size = config.get("num_attention_heads"), record.count("tp", least=1, most=_MOST_RANKS)
        if not isinstance(heads, int) or heads % tensor_size == 0:
            return None
        return No(RefusalReason.NOT_DIVISIBLE, f"{heads} attention heads are not divisible by {tensor_size}")

    def _shape(self, record: Record) -> ModelShape | No:
        name = _config_name(record)
        patch, beside = record.mapping("config_patch"), record.flag("hf_quant_config") is True
        key = (name, repr(patch), beside)
        if key not in self._shapes:
            self._shapes[key] = self._read(name, patch, beside=beside)
        return self._shapes[key]

    def _read(self, name: str, patch: Mapping[str, Any], *, beside: bool) -> ModelShape | No:
        values = self._find(name)
        if values is None:
            return No(
                RefusalReason.UNSUPPORTED_MODEL, f"{name}.json is not in the folder of configs; put it there."
            )
        self.found_config = True
        config = copy.deepcopy(without_notes(values))
        if beside and config.get("quantization_config") is None:
            config["quantization_config"] = beside_config(values, as_vllm=True)
        _merge(config, patch)
        facts = ModelFacts(model_id=name, requested_revision="main", commit="local", config=config, files=())
        try:
            return shape_from_facts(facts)
        except UnsupportedModelError as problem:
            return No(RefusalReason.UNSUPPORTED_MODEL, str(problem))


def _config_name(record: Record) -> str:
    return record.text("model_file") or record.required("model").replace("/", "--")


def _merge(config: dict[str, Any], patch: Mapping[str, Any]) -> None:
    """Merge keys into the config in place, objects inside objects."""
    for key, value in patch.items():
        if isinstance(value, dict) and isinstance(config.get(key), dict):
            _merge(config[key], value)
        else:
            config[key] = copy.deepcopy(value)


def _card(record: Record) -> Accelerator:
    name = record.required("gpu")
    try:
        return gpus.find(_CARDS.get(name, name))
    except gpus.UnknownAccelerator as problem:
        raise InputError(f"{record.where}: gpu is {name!r:.80}: {problem}") from problem


def _serving(record: Record) -> Serving:
    """The line's options.

    Raises:
        UnsupportedOptionError: one that cannot be planned with.
    """
    extra = Record(record.mapping("extra"), f"{record.where}, extra")
    unknown = sorted(set(extra.values) - {*_FLAGS, *_COUNTS, *_WITHOUT_BYTES, _SPECULATIVE})
    if unknown:
        raise UnsupportedOptionError(f"extra.{unknown[0]} is an option that cannot be planned with.")
    options: dict[str, Any] = {name: extra.integer(name, least=1, most=_MOST) for name in _COUNTS}
    options |= {name: value for name in _FLAGS if (value := extra.flag(name)) is not None}
    speculative = extra.mapping(_SPECULATIVE)
    return Serving(
        engine_version=record.required("vllm"),
        kv_cache_dtype=record.text("kv_cache_dtype"),
        kv_cache_memory_bytes=record.integer("available_bytes", least=1),
        speculative=speculation_of(speculative) if speculative else None,
        **options,
    )
