"""The facts of a model within the time that admission has, and without anybody's token.

The webhook reads no Secrets: the bundled catalogue answers first, then the Hub as it answers everybody. A model
that only a token may see is sized by the operator, and admission says so.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from plimsoll.hub.errors import problem
from plimsoll.reconcile.sources import DEFAULT_REVISION, HubFailureKind
from plimsoll.sizing import catalogue

if TYPE_CHECKING:
    from plimsoll.sizing.facts import ModelFacts

HUB_SECONDS: Final = 2.5


class Hub(Protocol):
    """What answers from the network: the Hub through its cache."""

    async def fetch(self, model_id: str, revision: str, token: str | None = None) -> ModelFacts:
        """The facts of one revision."""


async def quick_facts(hub: Hub, model_id: str, revision: str | None) -> ModelFacts:
    """The facts, from the catalogue or the Hub.

    Raises:
        HubProblem: they could not be had, or not in time; the Hub's answer is in the cache for the next request.
    """
    wanted = revision or DEFAULT_REVISION
    known = catalogue.lookup(model_id) if wanted == DEFAULT_REVISION else None
    if known is not None:
        return known
    try:
        async with asyncio.timeout(HUB_SECONDS):
            return await hub.fetch(model_id, wanted)
    except TimeoutError:
        raise problem(
            HubFailureKind.UNREACHABLE,
            f"the Hub has not answered about {model_id} within {HUB_SECONDS:g} s; the operator goes on asking.",
        ) from None
