"""A volume provisioner that knows topology: volumes land in the zone of the node that the scheduler selected.

`python -m plimsoll.sandbox.provisioner --kubeconfig FILE [--folder FOLDER]`. It serves two storage classes: one of block volumes of
one zone (ReadWriteOnce, bound when the first pod is scheduled), one of file shares that every node can mount. Simulated nodes mount nothing; with
--folder it runs on a real node, and each block volume is a folder of that node.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from kubernetes.aio import client, config, watch
from kubernetes.aio.client.exceptions import ApiException

from plimsoll.sandbox.volumes import PROVISIONER, Refusal, answer, folder_of, is_ours, is_released

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOG: Final = logging.getLogger("plimsoll.sandbox.provisioner")
_TIMEOUT_SECONDS: Final = 10.0
_WATCH_SECONDS: Final = 60
_RESYNC_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 0.5
_CONFLICT: Final = 409
_NOT_FOUND: Final = 404


class Provisioner:
    """Looks at all claims and volumes whenever one of them changes."""

    def __init__(self, api: Any, folder: Path | None = None) -> None:
        """Take an open API client, and where a real node keeps its volumes."""
        self._folder = folder
        # The generated types take no plain dicts, which is all that is passed on here.
        self._core: Any = client.CoreV1Api(api)
        self._api = api
        self._changed = asyncio.Event()
        self._told: set[tuple[str, str]] = set()

    async def run(self) -> None:
        """Provision until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch(self._core.list_persistent_volume_claim_for_all_namespaces))
            group.create_task(self._watch(self._core.list_persistent_volume))
            while True:
                self._changed.clear()
                try:
                    await self.reconcile()
                except (ApiException, OSError, TimeoutError) as error:
                    _LOG.warning("%s", error)
                    await asyncio.sleep(_RETRY_SECONDS)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), _RESYNC_SECONDS)

    async def reconcile(self) -> None:
        """Make the volumes that are wanted, remove those that are released."""
        claims = await self._core.list_persistent_volume_claim_for_all_namespaces(
            _request_timeout=_TIMEOUT_SECONDS
        )
        nodes = await self._core.list_node(_request_timeout=_TIMEOUT_SECONDS)
        by_name = {node["metadata"]["name"]: node for node in map(self._plain, nodes.items)}
        for claim in map(self._plain, claims.items):
            if is_ours(claim):
                await self._provision(claim, by_name)
        volumes = await self._core.list_persistent_volume(_request_timeout=_TIMEOUT_SECONDS)
        for volume in map(self._plain, volumes.items):
            if is_released(volume):
                await self._remove(volume)

    async def _provision(self, claim: dict[str, Any], nodes: dict[str, dict[str, Any]]) -> None:
        found = answer(claim, nodes, self._folder)
        if found is None:
            return
        if isinstance(found, Refusal):
            await self._refuse(claim, found)
            return
        if (path := folder_of(found)) is not None:
            await asyncio.to_thread(Path(path).mkdir, parents=True, exist_ok=True)
        try:
            await self._core.create_persistent_volume(found, _request_timeout=_TIMEOUT_SECONDS)
        except ApiException as error:
            if error.status != _CONFLICT:  # it is there already, and not bound yet
                raise
            return
        _LOG.info(
            "made %s for %s/%s",
            found["metadata"]["name"],
            claim["metadata"]["namespace"],
            claim["metadata"]["name"],
        )

    async def _refuse(self, claim: dict[str, Any], refusal: Refusal) -> None:
        meta = claim["metadata"]
        if refusal.reschedule:
            # The scheduler selects again, among the nodes that there are now.
            await self._core.patch_namespaced_persistent_volume_claim(
                meta["name"],
                meta["namespace"],
                {"metadata": {"annotations": {refusal.annotation: None}}},
                _content_type="application/merge-patch+json",
                _request_timeout=_TIMEOUT_SECONDS,
            )
            return
        if (meta["uid"], refusal.message) in self._told:
            return
        self._told.add((meta["uid"], refusal.message))
        event = refusal.event(claim)
        await self._core.create_namespaced_event(meta["namespace"], event, _request_timeout=_TIMEOUT_SECONDS)

    async def _remove(self, volume: dict[str, Any]) -> None:
        path = folder_of(volume)
        if path is not None and self._folder is not None and Path(path).parent == self._folder:
            await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
        try:
            await self._core.delete_persistent_volume(
                volume["metadata"]["name"], _request_timeout=_TIMEOUT_SECONDS
            )
        except ApiException as error:
            if error.status != _NOT_FOUND:
                raise

    async def _watch(self, listing: Any) -> None:
        while True:
            try:
                async with watch.Watch() as stream:  # type: ignore[no-untyped-call]
                    async for _ in stream.stream(
                        listing, timeout_seconds=_WATCH_SECONDS, _request_timeout=_WATCH_SECONDS + 10
                    ):
                        self._changed.set()
            except Exception as error:  # noqa: BLE001 - whatever ended the watch, the next one starts from a list
                _LOG.warning("watch: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)

    def _plain(self, item: Any) -> dict[str, Any]:
        plain: dict[str, Any] = self._api.sanitize_for_serialization(item)
        return plain


async def serve(kubeconfig: Path, folder: Path | None = None) -> None:
    """Provision for the cluster of a kubeconfig until cancelled."""
    configuration = client.Configuration()
    await config.load_kube_config(  # type: ignore[no-untyped-call]
        config_file=str(kubeconfig), client_configuration=configuration
    )
    async with client.ApiClient(configuration) as api:
        _LOG.info("serving %s", PROVISIONER)
        await Provisioner(api, folder).run()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m plimsoll.sandbox.provisioner", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--folder", type=Path, help="of the volumes on a real node")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(options.kubeconfig, options.folder))


if __name__ == "__main__":
    main()
