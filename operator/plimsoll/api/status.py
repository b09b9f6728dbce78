"""`status` of a ModelDeployment: everything that is computed or observed. The user's spec is never rewritten."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from plimsoll.api.base import MAX_SAFE_INTEGER, ApiModel, QuantityText

Text = Annotated[str, Field(max_length=1024)]
LongText = Annotated[str, Field(max_length=32768)]
ByteCount = Annotated[int, Field(ge=0, le=MAX_SAFE_INTEGER)]
Generation = Annotated[int, Field(ge=0, le=MAX_SAFE_INTEGER)]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
Positive = Annotated[int, Field(ge=1, le=2**31 - 1)]
Hash = Annotated[str, Field(max_length=64)]


class Condition(ApiModel):
    """metav1.Condition."""

    type: Annotated[str, Field(max_length=316)] = Field(description="Type of the condition.")
    status: Literal["True", "False", "Unknown"] = Field(description="True, False or Unknown.")
    reason: Annotated[str, Field(min_length=1, max_length=1024)] = Field(
        description="Why, as one word of a closed list."
    )
    message: LongText = Field(description="Why, in sentences that end with the next step.")
    observed_generation: Generation = Field(description="Generation of the spec that this speaks of.")
    last_transition_time: Annotated[str, Field(max_length=64)] = Field(
        description="When the status last flipped."
    )


class RevisionStatus(ApiModel):
    """Which revision is wanted, and which one was last good."""

    requested: Text | None = Field(default=None, description="What the spec asks for.")
    resolved: Hash | None = Field(default=None, description="The commit that it resolved to.")
    hash: Hash | None = Field(
        default=None, description="Hash over commit, image, launch arguments and environment."
    )
    last_good: Hash | None = Field(default=None, description="The hash that the public Service points to.")


class PlanPart(ApiModel):
    """One line of the bill, per GPU."""

    part: Text = Field(
        description="weights, draft, lora, kv_cache, state, activations, graphs, runtime or margin."
    )
    bytes: ByteCount = Field(description="Bytes that the plan reckons with, the safe end.")
    expected_bytes: ByteCount | None = Field(
        default=None, description="What it will most likely be, where that is another figure."
    )
    low_bytes: ByteCount | None = Field(
        default=None, description="The other end of the interval, where it is modelled."
    )
    source: Text = Field(description="Where the rule comes from.")


class PlannedResources(ApiModel):
    """Requests and limits of one component's pod, as quantities."""

    cpu_request: QuantityText = Field(description="CPU request.")
    cpu_limit: QuantityText = Field(description="CPU limit.")
    memory_request: QuantityText = Field(description="Memory request.")
    memory_limit: QuantityText = Field(description="Memory limit.")


class PlannedComponents(ApiModel):
    """Host resources of the three pods."""

    download: PlannedResources = Field(description="The download Job.")
    server: PlannedResources = Field(description="The engine.")
    test: PlannedResources = Field(description="The test Job.")


class PlannedHardware(ApiModel):
    """Where the plan lands."""

    product: Text | None = Field(
        default=None, description="Value of the label nvidia.com/gpu.product; absent: CPU only."
    )
    resource_name: Text | None = Field(
        default=None, description="Extended resource that the server requests."
    )
    memory_bytes: ByteCount | None = Field(
        default=None, description="Memory of one GPU that the plan reckons with."
    )
    gpus_per_node: Positive | None = Field(
        default=None, description="GPUs of one such node: what users of a ReadWriteOnce volume have to share."
    )
    node_labels: dict[str, Annotated[str, Field(max_length=63)]] | None = Field(
        default=None, max_length=16, description="Labels that a node must have."
    )


class PlanStatus(ApiModel):
    """The plan as it is kept: all that the children are made from, and the whole bill."""

    inputs_hash: Hash = Field(description="Hash of what the plan was made from.")
    model_id: Text = Field(description="The model.")
    commit: Hash = Field(description="The commit that was sized and is downloaded.")
    image: Text = Field(description="The engine's image.")
    engine_version: Text = Field(description="vLLM release that the plan assumes.")
    hardware: PlannedHardware = Field(description="Where it lands.")
    tensor_parallel_size: Count = Field(description="Tensor parallel size; 0: CPU only.")
    pipeline_parallel_size: Positive = Field(description="Pipeline parallel size.")
    gpus: Count = Field(description="GPUs per replica.")
    nodes: Positive = Field(description="Nodes per replica.")
    max_model_len: Positive = Field(description="Context length in tokens.")
    refused_max_model_len: Positive | None = Field(
        default=None,
        description="Context length that the engine refused; present: this is the one plan anew, with the length that "
        "the engine suggested.",
    )
    limited_by: Text = Field(description="What stops a longer context.")
    kv_cache_tokens: ByteCount = Field(description="Tokens that the KV cache holds.")
    kv_cache_bytes: ByteCount = Field(description="Bytes of KV cache per GPU.")
    kv_cache_blocks: ByteCount | None = Field(default=None, description="Blocks of the KV cache.")
    expected_kv_cache_tokens: ByteCount | None = Field(
        default=None,
        description="Tokens that the engine will most likely report, where they are not the ones promised.",
    )
    expected_kv_cache_blocks: ByteCount | None = Field(
        default=None, description="Blocks that it will most likely report."
    )
    max_num_seqs: Positive | None = Field(
        default=None,
        description="Sequences that the engine is told to take at once, where it would not start with its own default.",
    )
    max_concurrency: Text = Field(description="Requests of full length at once, as a decimal.")
    gpu_memory_utilization: Text | None = Field(
        default=None, description="Utilisation that the plan reckons with."
    )
    per_gpu: tuple[PlanPart, ...] = Field(max_length=32, description="The bill of the fullest GPU.")
    weights_bytes: ByteCount = Field(description="Bytes of the weight files that are loaded.")
    download_bytes: ByteCount = Field(description="Bytes that the download fetches.")
    has_chat_template: bool = Field(description="Whether the tokenizer has a chat template.")
    resources: PlannedComponents = Field(description="CPU and memory of each component.")
    warnings: tuple[Text, ...] | None = Field(
        default=None, max_length=32, description="What the user should know."
    )


class MeasuredStatus(ApiModel):
    """What the running engine reports of itself, read once per revision."""

    revision: Hash = Field(description="Hash of the revision whose engine reported it.")
    version: Text | None = Field(default=None, description="vLLM release that the engine says it is.")
    kv_cache_tokens: ByteCount | None = Field(
        default=None, description="Tokens that its KV cache holds; absent where this release does not say."
    )
    blocks: ByteCount = Field(description="Blocks of its KV cache.")
    block_size: Positive = Field(description="Tokens of a block.")
    error_percent: Annotated[str, Field(max_length=32)] | None = Field(
        default=None,
        description="How far the expected KV cache is from the measured one, in percent of the measured, with its sign: "
        "+ where more was expected.",
    )


class DownloadStatus(ApiModel):
    """How far the download is."""

    bytes: ByteCount | None = Field(default=None, description="Bytes on the volume.")
    total: ByteCount | None = Field(default=None, description="Bytes to fetch.")
    rate: Text | None = Field(default=None, description="Bytes per second, as text with a unit.")
    eta: Text | None = Field(default=None, description="Time left, as text.")


class TestStatus(ApiModel):
    """What the last test of the requested revision said."""

    __test__ = False

    passed: Count | None = Field(default=None, description="Assertions that held.")
    failed: Count | None = Field(default=None, description="Assertions that did not hold.")
    total: Count | None = Field(default=None, description="All of them.")
    report: Text | None = Field(default=None, description="Where the full report lies.")
    proven_context: Count | None = Field(
        default=None, description="Length of the longest request that was served, in tokens."
    )
    key: Hash | None = Field(
        default=None, description="Revision hash and suite hash that the result belongs to."
    )


class ModelDeploymentStatus(ApiModel):
    """The whole status."""

    observed_generation: Generation | None = Field(
        default=None, description="Generation of the spec that was last acted on."
    )
    revision: RevisionStatus | None = Field(default=None, description="Revisions.")
    plan: PlanStatus | None = Field(default=None, description="The plan.")
    measured: MeasuredStatus | None = Field(
        default=None, description="What the engine of the requested revision reports."
    )
    download: DownloadStatus | None = Field(default=None, description="The download.")
    test: TestStatus | None = Field(default=None, description="The test.")
    url: Text | None = Field(default=None, description="Where the public Service answers inside the cluster.")
    replicas: Count | None = Field(default=None, description="Ready replicas of the serving revision.")
    selector: LongText | None = Field(
        default=None, description="Label selector of the server's pods, for autoscalers."
    )
    conditions: tuple[Condition, ...] | None = Field(
        default=None,
        max_length=16,
        description="Sized, Downloaded, Loaded, Tested, Available, Ready; Reconciling and Stalled while true.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
