from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from plimsoll.sandbox.hubstandin import HubStandIn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def hub() -> AsyncIterator[HubStandIn]:
    async with HubStandIn() as stand_in:
        yield stand_in


@pytest.fixture(autouse=True)
def no_hub_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
