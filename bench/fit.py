"""Refit the numbers of sizing/constants.toml: `python bench/fit.py LOGS.jsonl --configs DIR [--json FILE]`.

For each number that a log can tell: the rows, the value that each gives, their median and spread, and what stands in
the table. Then the table's expected values are replaced by medians that leave out one model (or one source) at a
time, and the rows of that model (source) are predicted with them: an error on what was not fitted.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from plimsoll.accuracy.predict import predict
from plimsoll.accuracy.reading import Configs, records
from plimsoll.accuracy.rows import row_from
from plimsoll.sizing import constants, launch, overheads
from plimsoll.sizing.constants import Constant
from plimsoll.sizing.graphs import graphs_constant
from plimsoll.units import GIB, MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from plimsoll.accuracy.predict import Prediction
    from plimsoll.accuracy.rows import LogRow
    from plimsoll.sizing.launch import Launch

_LEAST_PEAK = Fraction(
    5, 4
)  # a peak tells of the sampler where it is so much above the rest, and the other way round
_FEW = 3  # fewer rows than these leave the table's value as it is
_MODULES = (overheads, launch)


@dataclass(frozen=True, slots=True)
class Start:
    """A row with its prediction."""

    row: LogRow
    found: Prediction
    built: Launch

    @property
    def model(self) -> str:
        """What the row runs."""
        return self.row.model or self.row.id

    @property
    def source(self) -> str:
        """A start-up campaign counts as one source: what stands before the first sign between its parts."""
        return (self.row.source or self.row.id).split("#")[0].split(" ")[0]


@dataclass(frozen=True, slots=True)
class Seen:
    """What one row says of one number."""

    constant: Constant
    start: Start
    value: float


def starts(logs: Path, configs: Path) -> list[Start]:
    """The rows that can be sized."""
    find = Configs(configs).find
    found = []
    for number, record in records(logs):
        row = row_from(record, number)
        values = find(row.model or "")
        if values is None:
            continue
        sized = predict(row, values)
        if sized.launch is not None:
            found.append(Start(row, sized, sized.launch))
    return found


def _bytes(value: Any) -> float | None:
    return None if value is None else float(value) * GIB


def _peaks(start: Start) -> Iterator[Seen]:
    """A logged peak, split into the sampler or the forward pass, whichever is well above the other."""
    built, length = start.built, start.found.max_model_len
    peak = _bytes(start.row.peak_activation_gib)
    if peak is None:
        return
    limits = built.limits(length)
    width = limits.max_num_batched_tokens * built.shape.hidden_size * built.precision.element_bytes
    forward = overheads.forward(built, limits.max_num_batched_tokens)
    entries = limits.max_num_seqs * built.shape.vocab_size
    kept = overheads.buffers(built, limits, first=True, last=True).expected - entries // 8
    sampler = overheads.sampler(built, limits, length).expected + width
    newer = built.version.at_least(constants.SAMPLER_SCRATCH.since)
    scratch = constants.SAMPLER_SCRATCH.bytes.expected if newer else 0
    if built.pipeline_parallel_size > 1:  # a log tells of the first rank, which does not sample
        yield Seen(constants.PIPELINE_HIDDEN, start, (peak + entries // 8 - forward.expected) / width)
    elif built.shape.tower:
        if sampler > _LEAST_PEAK * forward.expected:
            yield Seen(constants.MULTIMODAL_HIDDEN, start, (peak - kept - sampler) / width)
    elif sampler > _LEAST_PEAK * forward.expected:
        constant = constants.at(constants.SAMPLER, built.version)
        yield Seen(constant, start, (peak - kept - width - scratch) / entries)
    elif forward.expected > _LEAST_PEAK * sampler:
        inner = forward.expected - constants.FORWARD_HIDDEN.of(width).expected
        yield Seen(constants.FORWARD_HIDDEN, start, (peak - kept - inner) / width)


def _encoders(start: Start) -> Iterator[Seen]:
    """What the budget leaves beside weights and KV cache, where that is more than decoder and sampler take."""
    built, length = start.built, start.found.max_model_len
    left, weights = _bytes(start.row.available_kv_gib), _bytes(start.row.weights_gib_per_gpu)
    if built.shape.encoder is None or left is None or start.row.gpu_memory_utilization is None:
        return
    costs, limits = built.costs(length)[0], built.limits(length)
    peak = built.usable_bytes - (weights or costs.weights_bytes) - left
    peak -= costs.graphs.expected + costs.runtime.expected
    sampler = overheads.sampler(built, limits, length)
    rest = overheads.forward(built, limits.max_num_batched_tokens).at_least(sampler).expected
    reckoned = overheads.encoder(built, limits, length).expected
    if reckoned > rest:
        yield Seen(constants.ENCODER, start, float(constants.ENCODER.expected) * peak / reckoned)


def _graphs(start: Start) -> Iterator[Seen]:
    """A logged estimate of the graphs, per layer."""
    estimated = _bytes(start.row.cuda_graph_estimated_gib)
    reckoned = start.built.graphs.expected
    if estimated is None or not reckoned:
        return
    constant = graphs_constant(start.built)
    yield Seen(constant, start, float(constant.expected) * estimated / reckoned)


def _outside(start: Start) -> Iterator[Seen]:
    logged = start.row.non_torch_gib
    if logged is not None and start.built.pipeline_parallel_size == 1:
        yield Seen(overheads.non_torch_constant(start.built), start, float(logged))


def _weights(start: Start) -> Iterator[Seen]:
    """What stands on the card after loading, over the bytes by shapes."""
    logged = _bytes(start.row.weights_gib_per_gpu)
    ours = start.built.weights_on_card(0)
    if logged is None or not ours or start.built.pipeline_parallel_size > 1:
        return
    repacked = start.built.costs(start.found.max_model_len)[0].repacked
    if repacked.high:
        constant = constants.at(constants.TRITON_EXPERTS, start.built.version)
        yield Seen(constant, start, (logged - ours) / start.built.stages[0].layer_bytes)
    else:
        constant = constants.LOADING_ENCODER if start.built.shape.tower else constants.LOADING
        yield Seen(constant, start, logged / ours - 1)


_TELLERS: tuple[Callable[[Start], Iterator[Seen]], ...] = (_peaks, _encoders, _graphs, _outside, _weights)


def seen(found: Sequence[Start]) -> list[Seen]:
    """Everything that the rows tell."""
    return [one for start in found for teller in _TELLERS for one in teller(start)]


def medians(told: Sequence[Seen]) -> dict[Constant, float]:
    """The fitted value of each number that enough rows tell of."""
    values: dict[Constant, list[float]] = defaultdict(list)
    for one in told:
        values[one.constant].append(one.value)
    return {key: statistics.median(found) for key, found in values.items() if len(found) >= _FEW}


def _moved(constant: Constant, value: float) -> Constant:
    """The number with another expected value, inside its ends."""
    scale = {"GiB": GIB, "MiB": MIB}.get(constant.unit, 1)
    expected = min(max(Fraction(value).limit_denominator(10**6), constant.low), constant.high)
    return replace(
        constant, expected=expected, bytes=replace(constant.bytes, expected=round(expected * scale))
    )


def _table(value: Any, fitted: Mapping[Constant, float]) -> Any:
    if isinstance(value, tuple):
        return tuple(_table(one, fitted) for one in value)
    return _moved(value, fitted[value]) if value in fitted else value


def errors(found: Sequence[Start], fitted: Mapping[Constant, float]) -> list[float]:
    """The error of each row's KV space with these values, as a share of what was measured."""
    result = []
    with ExitStack() as stack:
        for module in _MODULES:
            for name, value in list(vars(module).items()):
                table = isinstance(value, tuple) and value and isinstance(value[0], Constant)
                if isinstance(value, Constant) or table:
                    stack.enter_context(patch.object(module, name, _table(value, fitted)))
        for start in found:
            measured = _bytes(start.row.available_kv_gib)
            if measured is None or measured <= 0 or start.found.available_bytes is None:
                continue
            built = replace(start.built)  # without what it has worked out
            ours = built.available_interval(start.found.max_model_len)[0].expected
            result.append(abs(ours - measured) / measured)
    return result


def leave_one_out(found: Sequence[Start], told: Sequence[Seen], key: Callable[[Start], str]) -> list[float]:
    """Errors of rows whose model (or source) had no part in the fit."""
    result: list[float] = []
    for name in sorted({key(start) for start in found}):
        fitted = medians([one for one in told if key(one.start) != name])
        result += errors([start for start in found if key(start) == name], fitted)
    return result


def _spread(values: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(values)
    cut = len(ordered) // 20
    return ordered[cut], ordered[-1 - cut]


def table(told: Sequence[Seen]) -> list[dict[str, Any]]:
    """One line for each number."""
    lines = []
    for constant in constants.CONSTANTS:
        values = [one.value for one in told if one.constant == constant]
        models = {one.start.model for one in told if one.constant == constant}
        least, most = _spread(values) if values else (None, None)
        lines.append(
            {
                "name": constant.name,
                "since": ".".join(map(str, constant.since)),
                "basis": constant.basis,
                "unit": constant.unit,
                "rows": len(values),
                "models": len(models),
                "median": statistics.median(values) if values else None,
                "from": least,
                "to": most,
                "table": [float(end) for end in (constant.low, constant.expected, constant.high)],
            }
        )
    return lines


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median and 90th percentile."""
    ordered = sorted(values)
    return {
        "rows": len(ordered),
        "median": statistics.median(ordered),
        "p90": ordered[min(len(ordered) - 1, 9 * len(ordered) // 10)],
    }


def _print(lines: Sequence[Mapping[str, Any]], scores: Mapping[str, Mapping[str, float]]) -> None:
    print(
        f"{'number':<26}{'since':<8}{'basis':<9}{'rows':>5}{'models':>7}{'median':>9}{'5 % to 95 %':>18}  table"
    )
    for line in lines:
        shown = "" if line["median"] is None else f"{line['median']:.4g}"
        spread = "" if line["from"] is None else f"{line['from']:.3g} to {line['to']:.3g}"
        ends = " / ".join(f"{end:g}" for end in line["table"])
        print(
            f"{line['name']:<26}{line['since']:<8}{line['basis']:<9}{line['rows']:>5}{line['models']:>7}{shown:>9}"
            f"{spread:>18}  {ends} {line['unit']}"
        )
    print()
    for name, score in scores.items():
        print(
            f"{name:<28}{score['rows']:>4} rows: median {score['median']:.2%}, 90th percentile {score['p90']:.2%}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Refit what sizing models on start-up logs.")
    parser.add_argument("logs", type=Path, help="one row as JSON on each line")
    parser.add_argument("--configs", type=Path, required=True, help="directory of <org>--<name>.json")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    found = starts(options.logs, options.configs)
    told = seen(found)
    scores = {
        "as in the table": summary(errors(found, {})),
        "refitted on all": summary(errors(found, medians(told))),
        "leaving one model out": summary(leave_one_out(found, told, lambda start: start.model)),
        "leaving one source out": summary(leave_one_out(found, told, lambda start: start.source)),
    }
    lines = table(told)
    _print(lines, scores)
    if options.json is not None:
        document = {"numbers": lines, "available_kv": scores}
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
