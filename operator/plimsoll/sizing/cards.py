"""Compute capabilities that rules compare with, and how a card that cannot is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from plimsoll.sizing.accelerators import Accelerator

# Capabilities from which a card can, and where that was read.
VOLTA: Final = (7, 0)  # vLLM 0.14's installation page: 7.0 or higher
TURING: Final = (7, 5)
AMPERE: Final = (8, 0)
ADA: Final = (8, 9)
HOPPER: Final = (9, 0)
BLACKWELL: Final = (10, 0)
WORKSTATION: Final = (12, 0)


class HardwareCannotError(ValueError):
    """A card that cannot do what the model or the user asks: a clause without a full stop."""


def named(accelerator: Accelerator) -> str:
    """The card with its compute capability, the beginning of a clause."""
    major, minor = accelerator.compute_capability
    return f"{accelerator.alias} has compute capability {major}.{minor}"


def is_blackwell(accelerator: Accelerator) -> bool:
    """Whether it is one of the data centre's Blackwell cards, which have kernels of their own."""
    return BLACKWELL <= accelerator.compute_capability < WORKSTATION
