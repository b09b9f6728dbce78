"""What is wrong with a spec by itself, all problems at once; the rules of the custom resource included.

The same function runs in admission, in the reconcile and in the CLI, so that each is right without the others.
What depends on the model, the nodes or a quota is not here: sizing and the stages say it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from plimsoll.api.spec import (
    AccessMode,
    EngineSpec,
    EnvVar,
    GpuSpec,
    ModelDeploymentSpec,
    ParallelismSpec,
    StorageSpec,
    VllmSpec,
)
from plimsoll.manifests.engine import version_in_tag
from plimsoll.manifests.launch import FIELD_FLAGS, owned_flag
from plimsoll.reconcile.extra_args import argument_problems
from plimsoll.reconcile.problems import TOKEN, FieldProblem, problem
from plimsoll.reconcile.validate_pod import pod_problems
from plimsoll.reconcile.validate_resources import quantity_problems, resource_problems
from plimsoll.sizing.engine import UnsupportedOptionError, parse_version
from plimsoll.sizing.rules import GONE

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FieldProblem", "validate"]

# Variables of the engine that a field or the plan sets.
_OWNED_ENV: Final = {
    "VLLM_API_KEY": "spec.engine.apiKeySecretRef",
    "HF_TOKEN": "spec.model.tokenSecretRef",
    "HUGGING_FACE_HUB_TOKEN": "spec.model.tokenSecretRef",
    "VLLM_CPU_KVCACHE_SPACE": None,
    "VLLM_PORT": None,
}


def validate(spec: ModelDeploymentSpec) -> tuple[FieldProblem, ...]:
    """Every problem of a spec, in the order of its fields; none: it may be sized."""
    engine = spec.engine or EngineSpec()
    return (
        *_engine(engine),
        *_env(engine.env or ()),
        *_vllm(engine, engine.vllm or VllmSpec()),
        *_parallelism(spec),
        *pod_problems(spec.pod),
        *resource_problems(spec.resources),
        *_storage(spec.storage or StorageSpec()),
        *_test(spec),
        *quantity_problems(spec),
    )


def _engine(engine: EngineSpec) -> Iterator[FieldProblem]:
    version = engine.version
    if version is None and engine.image is not None:
        version = version_in_tag(engine.image)
        if version is None:
            yield problem(
                "spec.engine.image",
                engine.image,
                "its tag does not name a release of vLLM, which the plan rests on; set spec.engine.version to the "
                "release that the image holds, such as 0.33.0",
            )
    if version is not None:
        try:
            parse_version(version)
        except UnsupportedOptionError as error:
            path = "spec.engine.version" if engine.version is not None else "spec.engine.image"
            yield FieldProblem(path=path, value=repr(version), message=str(error))


def _env(env: tuple[EnvVar, ...]) -> Iterator[FieldProblem]:
    seen: set[str] = set()
    for index, variable in enumerate(env):
        path = f"spec.engine.env[{index}]"
        if variable.name in seen:
            yield problem(f"{path}.name", variable.name, "it is set twice; keep one of them")
        seen.add(variable.name)
        if variable.name in _OWNED_ENV:
            field = _OWNED_ENV[variable.name]
            way_out = f"set {field} instead" if field is not None else "remove it; the plan sets it"
            yield problem(f"{path}.name", variable.name, f"the operator sets this variable; {way_out}")
        source = variable.value_from
        if (variable.value is None) == (source is None):
            yield problem(path, variable.name, "it must have one value; set either value or valueFrom")
        if source is not None and (source.secret_key_ref is None) == (source.config_map_key_ref is None):
            yield problem(
                f"{path}.valueFrom",
                variable.name,
                "it must have one source; set either secretKeyRef or configMapKeyRef",
            )
        if variable.value is not None and TOKEN.search(variable.value):
            yield problem(f"{path}.value", variable.value, _HIDE_IT)


_HIDE_IT: Final = (
    "it looks like a Hugging Face token, which everybody who may read this object would see; put it into a Secret, "
    "name that in spec.model.tokenSecretRef, and revoke this token"
)


def _vllm(engine: EngineSpec, vllm: VllmSpec) -> Iterator[FieldProblem]:
    for index, argument in enumerate(vllm.extra_args or ()):
        yield from _extra_arg(f"spec.engine.vllm.extraArgs[{index}]", argument)
    yield from argument_problems(vllm.extra_args or ())
    if vllm.quantization in GONE:
        yield problem(
            "spec.engine.vllm.quantization",
            vllm.quantization,
            f"{GONE[vllm.quantization]}, so it cannot be planned; leave it unset and name an AWQ, GPTQ or FP8 build of "
            "the model",
        )
    tokens, sequences, length = vllm.max_num_batched_tokens, vllm.max_num_seqs, engine.max_model_len
    path = "spec.engine.vllm.maxNumBatchedTokens"
    if tokens is not None and sequences is not None and tokens < sequences:
        yield problem(
            path,
            tokens,
            f"vLLM refuses fewer than maxNumSeqs, which is {sequences}; raise it to {sequences} or more",
        )
    if vllm.enable_chunked_prefill is False and tokens is not None and length is not None and tokens < length:
        yield problem(
            path,
            tokens,
            f"without chunked prefill a prompt must fit one forward pass; raise it to maxModelLen, which is {length}, "
            "or set enableChunkedPrefill to true",
        )


def _extra_arg(path: str, argument: str) -> Iterator[FieldProblem]:
    if TOKEN.search(argument):
        yield problem(path, argument, _HIDE_IT)
    flag = owned_flag(argument)
    if flag is None:
        return
    field = FIELD_FLAGS[flag]
    if field:
        yield problem(path, argument, f"spec.{field} sets {flag}; set that field, and remove the flag")
    else:
        yield problem(
            path,
            argument,
            f"the operator sets {flag}, on which probes, Services and the test rest; remove it",
        )


def _parallelism(spec: ModelDeploymentSpec) -> Iterator[FieldProblem]:
    parallelism = spec.parallelism or ParallelismSpec()
    size, stages = parallelism.tensor_parallel_size, parallelism.pipeline_parallel_size
    gpu = spec.hardware.gpu if spec.hardware is not None else None
    if size == 0:
        if gpu is not None:
            yield problem(
                "spec.hardware.gpu",
                gpu.to_json(),
                "parallelism.tensorParallelSize 0 means CPU only and excludes hardware.gpu; remove one of them",
            )
        if stages is not None and stages > 1:
            yield problem(
                "spec.parallelism.pipelineParallelSize",
                stages,
                "tensorParallelSize 0 means CPU only, which has one pipeline stage; remove pipelineParallelSize",
            )
        return
    yield from _shared_gpu(spec, size, stages)
    count = (gpu or GpuSpec()).count
    if count is None:
        return
    both = size is not None and stages is not None
    if count % (size or 1) or count % (stages or 1) or (both and count != (size or 1) * (stages or 1)):
        yield problem(
            "spec.hardware.gpu.count",
            count,
            f"one replica uses tensorParallelSize ({size or 'computed'}) x pipelineParallelSize "
            f"({stages or 'computed'}) GPUs; set count to that product, or remove it",
        )


def _shared_gpu(spec: ModelDeploymentSpec, size: int | None, stages: int | None) -> Iterator[FieldProblem]:
    """A shared card is divided by what each server takes of it, and one replica uses one."""
    gpu = spec.hardware.gpu if spec.hardware is not None else None
    if gpu is None or not gpu.shared:
        return
    vllm = (spec.engine.vllm if spec.engine is not None else None) or VllmSpec()
    path = "spec.hardware.gpu.shared"
    if vllm.gpu_memory_utilization is None:
        yield problem(
            path,
            gpu.shared,
            "servers on a shared GPU see all of its memory; set engine.vllm.gpuMemoryUtilization, such that those of one "
            "card add up to less than 1 (`plimsoll plan` on their files divides it)",
        )
    if max(size or 1, stages or 1, gpu.count or 1) > 1:
        yield problem(
            path,
            gpu.shared,
            "one replica gets one shared GPU; remove tensorParallelSize, pipelineParallelSize and count, or shared",
        )


def _storage(storage: StorageSpec) -> Iterator[FieldProblem]:
    own = (storage.size, storage.storage_class_name, storage.access_modes)
    if storage.existing_claim is not None and any(field is not None for field in own):
        yield problem(
            "spec.storage.existingClaim",
            storage.existing_claim,
            "size, storageClassName and accessModes are those of the claim that is already there; remove them, or "
            "remove existingClaim to have a claim made",
        )
    if storage.access_modes == (AccessMode.READ_WRITE_ONCE_POD,):
        yield problem(
            "spec.storage.accessModes",
            AccessMode.READ_WRITE_ONCE_POD.value,
            "one pod alone may mount such a volume, but the server shares it with the download, its test and its next "
            "revision; set ReadWriteOnce or ReadWriteMany",
        )


def _test(spec: ModelDeploymentSpec) -> Iterator[FieldProblem]:
    suite = spec.test.promptfoo if spec.test is not None else None
    if suite is None:
        return
    path = "spec.test.promptfoo"
    if suite.config_map_ref is not None and suite.tests is not None:
        yield problem(
            path,
            suite.config_map_ref.name,
            "there must be one suite; set either configMapRef or tests, or neither for the built-in smoke suite",
        )
    for index, test in enumerate(suite.tests or ()):
        asserts = test.get("assert")
        if not isinstance(asserts, list | tuple) or not asserts:
            yield problem(
                f"{path}.tests[{index}].assert",
                asserts,
                "a test without an assertion cannot fail; give it a list of assertions, or remove the test",
            )
