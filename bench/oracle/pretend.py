"""A GPU that is not there: vLLM's CUDA platform, with every tensor that would lie on the card on the meta device.

Nothing is executed on it. What is real is vLLM's Python, from the engine's arguments to the classes of the model.
"""

# ruff: noqa: PLC0415, SLF001, PLR2004 - vLLM is imported once its surroundings pretend; capabilities are numbers
from __future__ import annotations

import ctypes
import importlib
import importlib.machinery
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch.overrides import TorchFunctionMode

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Card:
    """What vLLM asks a driver."""

    capability: tuple[int, int]
    name: str
    total_gib: float
    multiprocessors: int


CARDS = {
    "v100": Card((7, 0), "Tesla V100-SXM2-16GB", 15.77, 80),
    "t4": Card((7, 5), "Tesla T4", 14.56, 40),
    "a100-40": Card((8, 0), "NVIDIA A100-SXM4-40GB", 39.49, 108),
    "a100-80": Card((8, 0), "NVIDIA A100-SXM4-80GB", 79.25, 108),
    "a10": Card((8, 6), "NVIDIA A10", 22.0, 72),
    "l4": Card((8, 9), "NVIDIA L4", 22.0, 58),
    "l40s": Card((8, 9), "NVIDIA L40S", 44.4, 142),
    "h100-80": Card((9, 0), "NVIDIA H100 80GB HBM3", 79.1, 132),
    "h200": Card((9, 0), "NVIDIA H200", 139.8, 132),
    "b200": Card((10, 0), "NVIDIA B200", 178.3, 148),
    "rtx5090": Card((12, 0), "NVIDIA GeForce RTX 5090", 31.4, 170),
}
_EXTENSIONS = ("vllm.vllm_flash_attn._vllm_fa2_C", "vllm.vllm_flash_attn._vllm_fa3_C")
_AT_ONCE = ("item", "tolist", "__bool__", "__int__", "__float__", "__index__")


class _Nothing:
    """Stands for a stream, an event or a driver: whatever is asked of it does nothing."""

    cuda_stream = 0

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __getattr__(self, _: str) -> Any:
        return lambda *_, **__: None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class OnMeta(TorchFunctionMode):
    """Every tensor that would lie on the card lies on meta; what is read from one is zero."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        kwargs = dict(kwargs or {})
        device = kwargs.get("device")
        if device is not None and func is not torch.device:
            named = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
            if named.type == "cuda":
                kwargs["device"] = torch.device("meta")
        name = getattr(func, "__name__", "")
        first = args[0] if args else None
        if name == "cuda" and isinstance(first, torch.Tensor):
            return first.to("meta")
        if name == "to" and len(args) > 1 and str(args[1]).startswith("cuda"):
            args = (first, torch.device("meta"), *args[2:])
        if name == "pin_memory":
            return first
        if isinstance(first, torch.Tensor) and first.is_meta and name in (*_AT_ONCE, "cpu", "numpy"):
            zeros = torch.zeros(first.shape, dtype=first.dtype, device="cpu")
            return zeros if name == "cpu" else func(zeros)
        return func(*args, **kwargs)


def pretend(card: Card) -> None:
    """Make vLLM believe that eight such cards are in this machine; once in a process, before vLLM is imported."""
    libraries = Path(torch.__file__).parent / "lib"
    for library in ("libcuda.so.1", "libcudart.so.13"):  # stand-ins; vLLM's extensions want them loaded
        ctypes.CDLL(str(libraries / library))
    # These look at torch.cuda while they load, so they come before it is changed.
    for module in ("torch._dynamo", "torch._inductor.lowering"):
        importlib.import_module(module)

    _cuda(card)
    _triton(card)
    for name in _EXTENSIONS:
        extension = types.ModuleType(name)
        extension.__spec__ = importlib.machinery.ModuleSpec(name, None)
        sys.modules[name] = extension
    torch.compile = lambda model=None, **_: model or (lambda function: function)
    torch.library.register_fake = _tolerant(torch.library.register_fake)
    _platform(card)
    _alone()


def _cuda(card: Card) -> None:
    major, minor = card.capability
    total = int(card.total_gib * GIB)
    properties = types.SimpleNamespace(
        major=major,
        minor=minor,
        name=card.name,
        total_memory=total,
        multi_processor_count=card.multiprocessors,
        is_integrated=False,
        shared_memory_per_block_optin=232448 if major >= 9 else 166912,
        max_threads_per_multi_processor=2048,
        warp_size=32,
    )
    answers: dict[str, Any] = {
        "is_available": True,
        "device_count": 8,
        "current_device": 0,
        "get_device_properties": properties,
        "get_device_name": card.name,
        "get_device_capability": card.capability,
        "mem_get_info": (total, total),
        "is_bf16_supported": major >= 8,
        "memory_allocated": 0,
        "max_memory_allocated": 0,
        "memory_reserved": 0,
        **dict.fromkeys(("set_device", "synchronize", "empty_cache", "init", "_lazy_init")),
    }
    for name, answer in answers.items():
        setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
    for name in ("Stream", "Event", "current_stream", "stream", "device"):
        setattr(torch.cuda, name, _Nothing)
    for name, answer in {"is_available": True, "device_count": 8, "current_device_index": 0}.items():
        setattr(torch.accelerator, name, lambda *_, answer=answer, **__: answer)
    torch.accelerator.current_accelerator = lambda *_, **__: torch.device("cuda")
    torch.accelerator.synchronize = torch.accelerator.empty_cache = lambda *_, **__: None


def _triton(card: Card) -> None:
    from triton.backends import backends
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver

    class Driver(_Nothing):
        @classmethod
        def is_active(cls) -> bool:
            return True

        def get_current_target(self) -> Any:
            return GPUTarget("cuda", card.capability[0] * 10 + card.capability[1], 32)

    backends["nvidia"] = type(backends["nvidia"])(backends["nvidia"].compiler, Driver)
    for name in [name for name in backends if name != "nvidia"]:
        del backends[name]
    driver.set_active(Driver())


def _tolerant(register: Any) -> Any:
    """Operators of extensions that are not there need no stand-in for their shapes either."""

    def registered(*args: Any, **kwargs: Any) -> Any:
        try:
            made = register(*args, **kwargs)
        except (RuntimeError, ValueError):
            return lambda function: function
        if len(args) > 1 and callable(args[1]):
            return made

        def decorated(function: Any) -> Any:
            try:
                return made(function)
            except (RuntimeError, ValueError):
                return function

        return decorated

    return registered


def _platform(card: Card) -> None:
    from vllm import platforms
    from vllm.platforms.cuda import CudaPlatformBase
    from vllm.platforms.interface import DeviceCapability

    answers: dict[str, Any] = {
        "get_device_capability": DeviceCapability(*card.capability),
        "get_device_name": card.name,
        "get_device_total_memory": int(card.total_gib * GIB),
        "get_device_uuid": "GPU-0",
        "is_fully_connected": True,
        "device_count": 8,
        "is_pin_memory_available": False,
        "num_compute_units": card.multiprocessors,
        "set_device": None,
        "logical_device_id_to_visible_device_id": 0,
        "get_device_communicator_cls": (
            "vllm.distributed.device_communicators.base_device_communicator.DeviceCommunicatorBase"
        ),
    }
    methods = {
        name: classmethod(lambda _, *__, answer=answer, **___: answer) for name, answer in answers.items()
    }
    platforms._current_platform = type("Pretended", (CudaPlatformBase,), methods)()


def _alone() -> None:
    """One process stands for all ranks: groups of torch's fake backend, no queues between them."""
    from torch.testing._internal.distributed import fake_pg  # noqa: F401 - registers the backend
    from vllm.distributed import parallel_state
    from vllm.distributed.device_communicators import shm_broadcast
    from vllm.model_executor.models import registry

    parallel_state._node_count = lambda _: 1
    shm_broadcast.MessageQueue.create_from_process_group = staticmethod(lambda *_, **__: None)
    registry._run_in_subprocess = lambda function: function()
    new_group = torch.distributed.new_group
    torch.distributed.new_group = lambda ranks=None, *_, **__: new_group(ranks, backend="fake")
