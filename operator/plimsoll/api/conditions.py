"""Condition types and the closed list of reasons; every message ends with the next step."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class ConditionType(StrEnum):
    """The conditions of a ModelDeployment, positive polarity, in the order of the stages."""

    SIZED = "Sized"
    DOWNLOADED = "Downloaded"
    LOADED = "Loaded"
    TESTED = "Tested"
    AVAILABLE = "Available"
    READY = "Ready"
    # As kstatus reads them: present only while true.
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class Reason(StrEnum):
    """Why a condition is as it is."""

    # Sized
    PLANNED = "Planned"
    UNSUPPORTED_MODEL = "UnsupportedModel"
    DOES_NOT_FIT = "DoesNotFit"
    CONTEXT_TOO_LONG = "ContextTooLong"
    NOT_DIVISIBLE = "NotDivisible"
    HARDWARE_CANNOT = "HardwareCannot"
    NO_MATCHING_NODE = "NoMatchingNode"
    UNSUPPORTED_OPTION = "UnsupportedOption"
    INVALID_SPEC = "InvalidSpec"
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105 - a reason, not a secret
    SECRET_NOT_USABLE = "SecretNotUsable"  # noqa: S105
    MODEL_NOT_FOUND = "ModelNotFound"
    REVISION_NOT_FOUND = "RevisionNotFound"
    GATED = "Gated"
    TOKEN_REFUSED = "TokenRefused"  # noqa: S105
    RATE_LIMITED = "RateLimited"
    HUB_UNREACHABLE = "HubUnreachable"
    NOT_A_TRANSFORMER = "NotATransformer"
    CONFIG_INVALID = "ConfigInvalid"
    QUOTA_EXCEEDED = "QuotaExceeded"
    PLAN_NO_LONGER_PLACES = "PlanNoLongerPlaces"
    VOLUME_CANNOT_BE_SHARED = "VolumeCannotBeShared"
    # Downloaded
    DOWNLOAD_COMPLETE = "DownloadComplete"
    DOWNLOADING = "Downloading"
    DOWNLOAD_FAILED = "DownloadFailed"
    VOLUME_PENDING = "VolumePending"
    CLAIM_NOT_FOUND = "ClaimNotFound"
    # Loaded
    ENGINE_READY = "EngineReady"
    LOADING = "Loading"
    ENGINE_FAILED = "EngineFailed"
    UNSCHEDULABLE = "Unschedulable"
    OUT_OF_MEMORY_LOADING = "OutOfMemoryLoading"
    OUT_OF_MEMORY_PROFILING = "OutOfMemoryProfiling"
    OUT_OF_MEMORY_SAMPLING = "OutOfMemorySampling"
    OUT_OF_MEMORY_CAPTURING = "OutOfMemoryCapturing"
    GPU_OUT_OF_MEMORY = "GPUOutOfMemory"
    GPU_IN_USE = "GPUInUse"
    KV_CACHE_TOO_SMALL = "KVCacheTooSmall"
    HOST_OUT_OF_MEMORY = "HostOutOfMemory"
    CPU_THROTTLED = "CPUThrottled"
    UNSUPPORTED_ARCHITECTURE = "UnsupportedArchitecture"
    UNSUPPORTED_DTYPE = "UnsupportedDtype"
    UNSUPPORTED_QUANTIZATION = "UnsupportedQuantization"
    REMOTE_CODE_NEEDED = "RemoteCodeNeeded"
    TOKENIZER_MISSING = "TokenizerMissing"
    WEIGHTS_DAMAGED = "WeightsDamaged"
    # any stage with a pod
    IMAGE_NOT_FOUND = "ImageNotFound"
    IMAGE_PULL_DENIED = "ImagePullDenied"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    VOLUME_FULL = "VolumeFull"
    # Tested
    PASSED = "Passed"
    TESTING = "Testing"
    TEST_FAILED = "TestFailed"
    TEST_ERROR = "TestError"
    GATE_OFF = "GateOff"
    SUITE_NOT_FOUND = "SuiteNotFound"
    # Available, Ready
    SERVING = "Serving"
    SERVING_LAST_GOOD = "ServingLastGood"
    NOT_SERVING = "NotServing"
    SUSPENDED = "Suspended"
    # any stage that has not begun
    WAITING = "Waiting"
    PROGRESSING = "Progressing"


# Reasons that no waiting mends: `Stalled` is true and only an edit (or an administrator) helps.
TERMINAL_REASONS: Final[frozenset[Reason]] = frozenset(
    {
        Reason.UNSUPPORTED_MODEL,
        Reason.DOES_NOT_FIT,
        Reason.CONTEXT_TOO_LONG,
        Reason.NOT_DIVISIBLE,
        Reason.HARDWARE_CANNOT,
        Reason.UNSUPPORTED_OPTION,
        Reason.INVALID_SPEC,
        Reason.SECRET_NOT_USABLE,
        Reason.MODEL_NOT_FOUND,
        Reason.REVISION_NOT_FOUND,
        Reason.GATED,
        Reason.TOKEN_REFUSED,
        Reason.NOT_A_TRANSFORMER,
        Reason.CONFIG_INVALID,
        Reason.VOLUME_CANNOT_BE_SHARED,
        Reason.DOWNLOAD_FAILED,
        Reason.ENGINE_FAILED,
        Reason.OUT_OF_MEMORY_LOADING,
        Reason.OUT_OF_MEMORY_PROFILING,
        Reason.OUT_OF_MEMORY_SAMPLING,
        Reason.OUT_OF_MEMORY_CAPTURING,
        Reason.GPU_OUT_OF_MEMORY,
        Reason.KV_CACHE_TOO_SMALL,
        Reason.HOST_OUT_OF_MEMORY,
        Reason.CPU_THROTTLED,
        Reason.UNSUPPORTED_ARCHITECTURE,
        Reason.UNSUPPORTED_DTYPE,
        Reason.UNSUPPORTED_QUANTIZATION,
        Reason.REMOTE_CODE_NEEDED,
        Reason.TOKENIZER_MISSING,
        Reason.WEIGHTS_DAMAGED,
        Reason.IMAGE_NOT_FOUND,
        Reason.IMAGE_PULL_DENIED,
        Reason.VOLUME_FULL,
        Reason.TEST_FAILED,
        Reason.TEST_ERROR,
    }
)
