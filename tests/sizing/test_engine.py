from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from plimsoll.sizing.engine import (
    UnsupportedOptionError,
    batch_limits,
    block_size,
    default_utilization,
    parse_version,
)
from plimsoll.sizing.gpus import find
from plimsoll.sizing.serving import Serving


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("0.33.0", (0, 33, 0)),
        ("v0.19.1", (0, 19, 1)),
        ("0.10.1.post1", (0, 10, 1)),
        ("0.21.0rc2", (0, 21, 0)),
        ("0.30.0+cu129", (0, 30, 0)),
    ],
)
def test_releases_are_read(text: str, release: tuple[int, int, int]) -> None:
    assert release == parse_version(text).release


@pytest.mark.parametrize(
    ("version", "share"),
    [("0.19.1", Fraction(9, 10)), ("0.20.0", Fraction(92, 100)), ("0.33.0", Fraction(92, 100))],
)
def test_the_default_share_grew_in_0_20(version: str, share: Fraction) -> None:
    assert share == default_utilization(parse_version(version))


@pytest.mark.parametrize(
    ("card", "version", "expected"),
    [
        pytest.param("A10", "0.33.0", (2048, 256), id="small"),
        pytest.param("A100-80GB", "0.33.0", (2048, 256), id="a100-is-small"),
        pytest.param("H100", "0.33.0", (8192, 1024), id="middle"),
        pytest.param("B200", "0.33.0", (16384, 1024), id="large"),
        pytest.param("B200", "0.27.0", (8192, 1024), id="large-before-0.28"),
    ],
)
def test_batch_defaults_follow_the_card(card: str, version: str, expected: tuple[int, int]) -> None:
    limits = batch_limits(
        parse_version(version),
        find(card),
        Serving(engine_version=version),
        max_model_len=32768,
        pipeline_parallel_size=1,
    )
    assert expected == (limits.max_num_batched_tokens, limits.max_num_seqs)


@pytest.mark.parametrize(
    ("serving", "length", "expected"),
    [
        pytest.param({"max_num_seqs": 2}, 512, (1024, 2), id="no-more-than-the-sequences-hold"),
        pytest.param({"max_num_batched_tokens": 64}, 512, (64, 64), id="no-more-sequences-than-tokens"),
        pytest.param({"enable_chunked_prefill": False}, 32768, (32768, 256), id="whole-prompts"),
        pytest.param({"max_num_seqs": 8, "max_num_batched_tokens": 4096}, 100, (4096, 8), id="both-set"),
    ],
)
def test_batch_limits_follow_the_options(
    serving: dict[str, Any], length: int, expected: tuple[int, int]
) -> None:
    limits = batch_limits(
        parse_version("0.33.0"),
        find("A10"),
        Serving(engine_version="0.33.0", **serving),
        max_model_len=length,
        pipeline_parallel_size=1,
    )
    assert expected == (limits.max_num_batched_tokens, limits.max_num_seqs)


def test_a_batch_below_the_context_needs_chunked_prefill() -> None:
    serving = Serving(engine_version="0.33.0", max_num_batched_tokens=1024, enable_chunked_prefill=False)
    with pytest.raises(UnsupportedOptionError, match="maxNumBatchedTokens is 1024"):
        batch_limits(parse_version("0.33.0"), None, serving, max_model_len=2048, pipeline_parallel_size=1)


@pytest.mark.parametrize(
    ("version", "stages", "batches"), [("0.25.1", 1, 1), ("0.26.0", 1, 2), ("0.33.0", 1, 2), ("0.33.0", 2, 3)]
)
def test_a_window_reserves_batches_in_flight(version: str, stages: int, batches: int) -> None:
    limits = batch_limits(
        parse_version(version),
        find("A10"),
        Serving(engine_version=version),
        max_model_len=8192,
        pipeline_parallel_size=stages,
    )
    assert batches * 2048 == limits.in_flight_tokens


@pytest.mark.parametrize(
    ("card", "latent", "fp8", "version", "tokens"),
    [
        pytest.param("A10", False, False, "0.33.0", 16, id="dense"),
        pytest.param("H100", True, False, "0.33.0", 16, id="latent-on-hopper"),
        pytest.param("H200", True, True, "0.33.0", 64, id="latent-fp8-on-hopper"),
        pytest.param("H200", True, False, "0.12.0", 64, id="latent-on-hopper-before"),
        pytest.param("B200", True, False, "0.33.0", 32, id="latent-on-blackwell"),
        pytest.param("A100-80GB", True, False, "0.33.0", 16, id="latent-on-ampere"),
        pytest.param(None, False, False, "0.33.0", 128, id="cpu"),
    ],
)
def test_blocks_follow_the_attention_backend(
    card: str | None, latent: bool, fp8: bool, version: str, tokens: int
) -> None:
    accelerator = None if card is None else find(card)
    found = block_size(parse_version(version), accelerator, latent_attention=latent, fp8_cache=fp8)
    assert tokens == found
