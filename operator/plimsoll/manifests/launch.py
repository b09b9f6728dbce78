"""The arguments and the environment that the engine is launched with."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from plimsoll.api.spec import EngineSpec, VllmSpec
from plimsoll.manifests.context import SERVED_PORT
from plimsoll.units import GIB, ceil_div, parse_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plimsoll.manifests.context import Context

CACHE_PATH: Final = "/cache"  # an emptyDir: the root file system is read-only

# Flags of `vllm serve` and the field that sets each; None: Plimsoll sets it itself, and no field does.
FIELD_FLAGS: Final[Mapping[str, str | None]] = MappingProxyType(
    {
        "--model": "model.id",
        "--revision": "model.revision",
        "--code-revision": "model.revision",
        "--hf-token": "model.tokenSecretRef",
        "--served-model-name": "engine.servedModelName",
        "--max-model-len": "engine.maxModelLen",
        "--api-key": "engine.apiKeySecretRef",
        "--gpu-memory-utilization": "engine.vllm.gpuMemoryUtilization",
        "--kv-cache-memory-bytes": "engine.vllm.kvCacheMemory",
        "--kv-cache-memory": "engine.vllm.kvCacheMemory",
        "--quantization": "engine.vllm.quantization",
        "-q": "engine.vllm.quantization",
        "--dtype": "engine.vllm.dtype",
        "--kv-cache-dtype": "engine.vllm.kvCacheDtype",
        "--max-num-seqs": "engine.vllm.maxNumSeqs",
        "--max-num-batched-tokens": "engine.vllm.maxNumBatchedTokens",
        "--enable-chunked-prefill": "engine.vllm.enableChunkedPrefill",
        "--no-enable-chunked-prefill": "engine.vllm.enableChunkedPrefill",
        "--cpu-offload-gb": "engine.vllm.cpuOffload",
        "--trust-remote-code": "engine.vllm.trustRemoteCode",
        "--no-trust-remote-code": "engine.vllm.trustRemoteCode",
        "--tensor-parallel-size": "parallelism.tensorParallelSize",
        "-tp": "parallelism.tensorParallelSize",
        "--pipeline-parallel-size": "parallelism.pipelineParallelSize",
        "-pp": "parallelism.pipelineParallelSize",
        "--data-parallel-size": "replicas",
        "-dp": "replicas",
        "--port": "service.port",
        # The probes, the Services and the test rest on these.
        "--host": None,
        "--uds": None,
        "--config": None,
        "--download-dir": None,
        "--ssl-keyfile": None,
        "--ssl-certfile": None,
    }
)
# What `argparse` would still take for a flag: a beginning of it. Shorter ones begin too many others.
_SHORTEST_PREFIX: Final = len("--mod")


def owned_flag(argument: str) -> str | None:
    """The flag of FIELD_FLAGS that an argument sets, in any spelling that vLLM takes; None: none of them.

    vLLM reads underscores as dashes and `--flag=value` as two arguments, and takes an unambiguous beginning of
    a flag for the flag.
    """
    flag = re.split(r"[=\s.]", argument.strip(), maxsplit=1)[0]
    if not flag.startswith("-"):
        return None
    if flag.startswith("--"):
        flag = "--" + flag.removeprefix("--").replace("_", "-")
    if flag in FIELD_FLAGS:
        return flag
    if flag.startswith("-q"):
        return "-q"  # a value may follow a flag of one letter directly: -qawq
    if len(flag) < _SHORTEST_PREFIX:
        return None
    return next((owned for owned in FIELD_FLAGS if owned.startswith(flag)), None)


def launch_args(ctx: Context) -> tuple[str, ...]:
    """What follows `vllm serve`."""
    engine = ctx.spec.engine or EngineSpec()
    vllm = engine.vllm or VllmSpec()
    return (
        ctx.model_path,
        "--host",
        "0.0.0.0",  # noqa: S104 - a pod is reached from outside of itself
        "--port",
        str(SERVED_PORT),
        "--served-model-name",
        ctx.served_model_name,
        "--max-model-len",
        str(ctx.plan.max_model_len),
        *_parallelism(ctx),
        *_user_args(vllm, ctx.plan.max_num_seqs),
        *(vllm.extra_args or ()),
    )


def launch_env(ctx: Context) -> list[dict[str, Any]]:
    """The engine's environment, sorted as it was made: caches, quiet, offline, the key, then the user's."""
    engine = ctx.spec.engine or EngineSpec()
    ours: dict[str, str] = {
        # A user id without an entry in /etc/passwd has neither a name nor a home.
        "HOME": CACHE_PATH,
        "USER": "vllm",
        "XDG_CACHE_HOME": f"{CACHE_PATH}/xdg",
        "VLLM_CACHE_ROOT": f"{CACHE_PATH}/vllm",
        "TORCHINDUCTOR_CACHE_DIR": f"{CACHE_PATH}/torchinductor",
        "TRITON_CACHE_DIR": f"{CACHE_PATH}/triton",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    if ctx.plan.tensor_parallel_size == 0 and (engine.vllm or VllmSpec()).kv_cache_memory is None:
        # It would win over --kv-cache-memory-bytes. vLLM takes whole GiB; the plan's blocks were cut out of that many.
        ours["VLLM_CPU_KVCACHE_SPACE"] = str(ceil_div(ctx.plan.kv_cache_bytes, GIB))
    users = [variable.to_json() for variable in engine.env or ()]
    taken = {variable["name"] for variable in users}
    found: list[dict[str, Any]] = [
        {"name": name, "value": value} for name, value in ours.items() if name not in taken
    ]
    if engine.api_key_secret_ref is not None:
        found.append(secret_env("VLLM_API_KEY", engine.api_key_secret_ref.to_json()))
        users = [variable for variable in users if variable["name"] != "VLLM_API_KEY"]
    return [*found, *users]


def secret_env(name: str, reference: Mapping[str, Any]) -> dict[str, Any]:
    """A variable that holds one key of a Secret."""
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": reference["name"], "key": reference["key"]}}}


def _parallelism(ctx: Context) -> tuple[str, ...]:
    plan = ctx.plan
    if plan.tensor_parallel_size == 0:
        return ()
    tensor = ("--tensor-parallel-size", str(plan.tensor_parallel_size))
    if plan.pipeline_parallel_size == 1:
        return tensor
    return (*tensor, "--pipeline-parallel-size", str(plan.pipeline_parallel_size))


def _user_args(vllm: VllmSpec, max_num_seqs: int | None) -> tuple[str, ...]:
    """The fields that the user set, in the order of the spec, and a bound that the plan sets where he did not."""
    valued: tuple[tuple[str, object], ...] = (
        ("--gpu-memory-utilization", vllm.gpu_memory_utilization),
        (
            "--kv-cache-memory-bytes",
            None if vllm.kv_cache_memory is None else parse_bytes(vllm.kv_cache_memory),
        ),
        ("--quantization", vllm.quantization),
        ("--dtype", vllm.dtype),
        ("--kv-cache-dtype", vllm.kv_cache_dtype),
        ("--max-num-seqs", vllm.max_num_seqs or max_num_seqs),
        ("--max-num-batched-tokens", vllm.max_num_batched_tokens),
    )
    found = [part for flag, value in valued if value is not None for part in (flag, str(value))]
    if vllm.enable_chunked_prefill is not None:
        found.append(
            "--enable-chunked-prefill" if vllm.enable_chunked_prefill else "--no-enable-chunked-prefill"
        )
    if vllm.cpu_offload is not None:
        found += ["--cpu-offload-gb", _gib(parse_bytes(vllm.cpu_offload))]
    if vllm.trust_remote_code:
        found.append("--trust-remote-code")
    return tuple(found)


def _gib(size_bytes: int) -> str:
    """Bytes in GiB, which is what vLLM means by its GB, exact in decimals (a GiB has 30 of them at most)."""
    whole, rest = divmod(size_bytes, GIB)
    decimals = f"{rest * 10**30 // GIB:030d}".rstrip("0")
    return f"{whole}.{decimals}" if decimals else str(whole)
