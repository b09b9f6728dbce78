"""A download against the Hub stand-in, with its pauses written down instead of waited for."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

from plimsoll.hub.client import HubClient
from plimsoll.hub.download import DownloadOrder, Retries, download

if TYPE_CHECKING:
    from pathlib import Path

    from plimsoll.reconcile.reports import DownloadReport, Progress
    from plimsoll.sandbox.hubstandin import HubStandIn

CONFIG = b'{"architectures": ["OPTForCausalLM"], "model_type": "opt"}'
LARGE = random.Random(1).randbytes(1_000_003)
SMALL = random.Random(2).randbytes(5_000)
FILES = {
    "config.json": CONFIG,
    "model-00001-of-00002.safetensors": LARGE,
    "model-00002-of-00002.safetensors": SMALL,
}
RANGE = 100_000
SHA = sha256(LARGE).hexdigest()


class Bench:
    """A download with its pauses written down instead of waited for."""

    def __init__(self, hub: HubStandIn, folder: Path) -> None:
        self.hub = hub
        self.folder = folder
        self.pauses: list[float] = []
        self.told: list[Progress] = []

    async def run(self, token: str | None = None, **changes: object) -> DownloadReport:
        metadata = await HubClient(self.hub.url).metadata("org/tiny", "main", token)
        order = DownloadOrder(
            metadata=metadata,
            folder=self.folder,
            endpoint=self.hub.url,
            token=token,
            ranges_over_bytes=RANGE,
            range_bytes=RANGE,
            retries=Retries(stall_seconds=20),
        )
        order = replace(order, **changes)  # type: ignore[arg-type]
        return await asyncio.to_thread(download, order, self.told.append, pause=self.pauses.append)

    @property
    def workshop(self) -> Path:
        return self.folder / ".cache" / "plimsoll"

    def parts(self) -> list[str]:
        return sorted(path.name for path in (self.workshop / "parts").iterdir())

    def has(self, files: dict[str, bytes]) -> bool:
        return all((self.folder / path).read_bytes() == content for path, content in files.items())


def starts(hub: HubStandIn, path: str = "00001") -> list[int]:
    return sorted(entry.start for entry in hub.served if path in entry.path)
