"""What is under way on a real node while other tests run: a slow download, and the engines that are measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.node_models import LARGE, MEASURED
from support.on_node import small_deployment, watching
from support.stand import Stand

# No whole number of blocks of any of the models.
_KV_CACHE = {"tiny/gqa": "77Mi", "tiny/gqa-wide": "50M", "tiny/sliding": "33Mi"}
_LIMITS = {"cpu": "2", "memory": "4Gi"}
_RESOURCES = {
    "download": {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": _LIMITS},
    # All at once on two cores, beside the download; it is also the share of the CPU where others use it.
    "server": {"requests": {"cpu": "250m", "memory": "256Mi"}, "limits": _LIMITS},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Early:
    """One namespace with the ModelDeployments `large` and one for each measured model.

    Attributes:
        watch: the number of bytes in status.download at each change of `large`, one in a line.
    """

    namespace: str
    watch: Path

    def told_bytes(self) -> list[int]:
        """The values that were seen, each once, in their order."""
        seen = self.watch.read_text().split()
        return [int(text) for text in dict.fromkeys(seen) if int(text) > 0]


def name_of(model_id: str) -> str:
    return model_id.partition("/")[2]


@contextmanager
def begin(stand: Stand, namespace: str, folder: Path) -> Iterator[Early]:
    """Apply all of them; does not wait."""
    early = Early(namespace=namespace, watch=folder / "bytes.log")
    column = 'jsonpath={.status.download.bytes}{"\\n"}'
    with watching(
        stand.kubectl,
        early.watch,
        "modeldeployments.plimsoll.dev",
        "-n",
        namespace,
        "-l",
        "watched=bytes",
        "-o",
        column,
    ):
        stand.kubectl.apply([_large(namespace), *(_measured(model_id, namespace) for model_id in MEASURED)])
        yield early


def _large(namespace: str) -> dict[str, Any]:
    """Downloaded and not served: what is loaded elsewhere need not be this large."""
    made = small_deployment("large", namespace, LARGE, suspend=True)
    made["metadata"]["labels"] = {"watched": "bytes"}
    return made


def _measured(model_id: str, namespace: str) -> dict[str, Any]:
    vllm = {"extraArgs": ["--enforce-eager"], "kvCacheMemory": _KV_CACHE.get(model_id, "61Mi")}
    return small_deployment(
        name_of(model_id),
        namespace,
        model_id,
        engine={"type": "vLLM", "vllm": vllm},
        resources=_RESOURCES,
        test={"gate": "Off"},
    )
