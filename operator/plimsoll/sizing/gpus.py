"""The GPUs known by name, with the memory that the CUDA runtime really shows to the engine.

Three figures stand for one card: the one on the box (80 GB), the one of NVML that nvidia-smi and the node
label nvidia.com/gpu.memory carry (81920 MiB), and the one that torch and vLLM reckon with (79.25 GiB). Only
the last may be planned with; the second leads to it when a node is read.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from importlib import resources
from typing import Any, Final

from plimsoll.sizing.accelerators import Accelerator
from plimsoll.sizing.facts import Provenance
from plimsoll.units import GIB, MIB

MIG_SUFFIX: Final = "-MIG-"  # between the card and the profile in the product label of a slice
_WITHOUT_SEPARATORS: Final = re.compile(r"[^a-z0-9]+")
# A label within this share of the table's own is the same card under another driver.
_SAME_CARD_RATIO: Final = Fraction(2, 100)


class UnknownAccelerator(ValueError):  # noqa: N818 - named in the contract between the parts
    """A name or a label that leads to no card, with the names that would."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigProfile:
    """A size of slice that a card can be cut into.

    Attributes:
        name: as in the resource nvidia.com/mig-<name> and the product label's suffix -MIG-<name> ("3g.40gb").
        compute_slices: the first figure of the name; a card has seven, or four.
        memory_bytes: what the driver shows inside the slice.
    """

    name: str
    compute_slices: int
    memory_bytes: int
    provenance: Provenance
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    accelerator: Accelerator
    names: frozenset[str]  # normalised: aliases and products
    products: tuple[str, ...]
    label_bytes: int | None  # None: NVML tells no memory of this card
    mig: tuple[MigProfile, ...]

    @property
    def shown(self) -> Fraction:
        """The share of the label's memory that the engine is shown."""
        return Fraction(self.accelerator.memory_bytes, self.label_bytes or self.accelerator.memory_bytes)


def catalogue() -> tuple[Accelerator, ...]:
    """Every card of the catalogue, in the order of the table."""
    return tuple(entry.accelerator for entry in _entries())


def checked_cards() -> tuple[Accelerator, ...]:
    """The cards that may be proposed: read from a real one, on CUDA, with memory that no host shares."""
    return tuple(
        entry.accelerator
        for entry in _entries()
        if entry.accelerator.provenance is not Provenance.RECALLED
        and entry.accelerator.platform == "cuda"
        and entry.label_bytes is not None
    )


def label_memory_mib(accelerator: Accelerator) -> int:
    """The value of the label nvidia.com/gpu.memory on a node with this card, in MiB.

    A card that NVML tells no memory of has its total there.

    Raises:
        UnknownAccelerator: the card is not one of the catalogue's.
    """
    entry = _by_name(accelerator.alias)
    if entry is None:
        raise _unknown(accelerator.alias)
    return (entry.label_bytes or entry.accelerator.memory_bytes) // MIB


def find(name: str) -> Accelerator:
    """The card of this alias or label value; case, dashes, blanks and underscores do not matter.

    A slice is named by its card and its profile, as in the label: A100-80GB-MIG-3g.40gb.

    Raises:
        UnknownAccelerator: no card has this name; the sentence lists the nearest and all names.
    """
    entry = _by_name(name)
    if entry is not None:
        return entry.accelerator
    whole, mark, profile = name.rpartition(MIG_SUFFIX)
    card = _by_name(whole) if mark else None
    if card is None:
        raise _unknown(name)
    return mig_slice(card.accelerator, profile)


def from_label(
    product: str, memory_mib: int | None, compute_major: int | None, compute_minor: int | None
) -> Accelerator:
    """The card that GPU Feature Discovery describes on a node.

    What the node says wins over the table: a label that shows less memory (a MIG slice, a vGPU) or more (a
    rebuilt card) than the table's card is believed, less the share that the driver keeps for itself. Of a
    card that the table does not have, that share is the largest of the table's, and the result says so.

    Args:
        product: nvidia.com/gpu.product.
        memory_mib: nvidia.com/gpu.memory, NVML's total in MiB; None where the label is absent.
        compute_major: nvidia.com/gpu.compute.major; None where the label is absent.
        compute_minor: nvidia.com/gpu.compute.minor; None where the label is absent.

    Raises:
        UnknownAccelerator: the labels do not say enough about a card that the table does not have.
    """
    if memory_mib is not None and memory_mib <= 0:
        raise UnknownAccelerator(
            f"The label nvidia.com/gpu.memory is {memory_mib} on nodes with {product!r}: it must be the card's "
            "memory in MiB; correct the label or run GPU Feature Discovery on the node."
        )
    if MIG_SUFFIX in product:
        known_slice = _slice_of(product, memory_mib)
        if known_slice is not None:
            return known_slice
    entry = next((e for e in _entries() if product in e.products), None)
    if entry is None:
        return _from_labels_alone(product, memory_mib, compute_major, compute_minor)
    known = entry.accelerator
    memory_bytes, source = known.memory_bytes, known.source
    if memory_mib is not None and not _same_card(entry, memory_mib * MIB):
        memory_bytes = int(memory_mib * MIB * entry.shown)
        source = f"node label nvidia.com/gpu.memory={memory_mib}, less the driver's share as on {known.alias}"
    capability = known.compute_capability
    if compute_major is not None and compute_minor is not None:
        capability = (compute_major, compute_minor)
    return Accelerator(
        alias=known.alias if memory_bytes == known.memory_bytes else product,
        product=product,
        memory_bytes=memory_bytes,
        compute_capability=capability,
        provenance=known.provenance,
        source=source,
        platform=known.platform,
    )


def mig_profiles(accelerator: Accelerator) -> tuple[MigProfile, ...]:
    """The slices that this card of the catalogue can be cut into, the smallest first; empty where none is known."""
    entry = _by_name(accelerator.alias)
    return () if entry is None else entry.mig


def compute_share(accelerator: Accelerator) -> tuple[int, int] | None:
    """Compute slices of a MIG slice and of its whole card, such as (3, 7); None for a whole card or an unknown one."""
    whole, mark, profile = accelerator.alias.partition(MIG_SUFFIX)
    entry = _by_name(whole) if mark else None
    slices = {known.name: known.compute_slices for known in entry.mig} if entry is not None else {}
    return (slices[profile], max(slices.values())) if profile in slices else None


def mig_slice(accelerator: Accelerator, profile: str, memory_mib: int | None = None) -> Accelerator:
    """A slice of a card, as one GPU of its own.

    Args:
        accelerator: the whole card.
        profile: such as "3g.40gb", as in the resource nvidia.com/mig-3g.40gb.
        memory_mib: the label nvidia.com/mig-<profile>.memory; it wins over the table, and stands for a profile
            that the table lacks.

    Raises:
        UnknownAccelerator: neither the table nor a label says the slice's memory.
    """
    known = {slice_.name: slice_ for slice_ in mig_profiles(accelerator)}
    if memory_mib is not None:
        # Of a slice NVML's total is the engine's: what the driver keeps is left out of all of them already.
        memory_bytes, provenance = memory_mib * MIB, accelerator.provenance
        source = f"the node's label of {profile}, {memory_mib} MiB"
    elif profile in known:
        found = known[profile]
        memory_bytes, provenance, source = found.memory_bytes, found.provenance, found.source
    else:
        raise UnknownAccelerator(
            f"The MIG profile {profile!r} of {accelerator.alias} is not in the catalogue, which has "
            f"{', '.join(known) or 'none'}, and the nodes lack the label nvidia.com/mig-{profile}.memory: run GPU "
            "Feature Discovery on them."
        )
    name = f"{accelerator.product}{MIG_SUFFIX}{profile}"
    return replace(
        accelerator,
        alias=f"{accelerator.alias}{MIG_SUFFIX}{profile}",
        product=name,
        memory_bytes=min(memory_bytes, accelerator.memory_bytes),
        provenance=provenance,
        source=source,
    )


def _slice_of(product: str, memory_mib: int | None) -> Accelerator | None:
    """The slice that a product label such as NVIDIA-H100-80GB-HBM3-MIG-1g.10gb names, if its card is known."""
    whole, _, profile = product.partition(MIG_SUFFIX)
    entry = next((e for e in _entries() if whole in e.products), None)
    if entry is None:
        return None
    if memory_mib is None and all(known.name != profile for known in entry.mig):
        return None
    return replace(mig_slice(entry.accelerator, profile, memory_mib), product=product)


def _same_card(entry: _Entry, label_bytes: int) -> bool:
    """Whether a label is this card's: older drivers leave their own share out of the label already."""
    if entry.label_bytes is None:
        return True
    high = entry.label_bytes * (1 + _SAME_CARD_RATIO)
    return entry.accelerator.memory_bytes <= label_bytes <= high


def _from_labels_alone(
    product: str, memory_mib: int | None, compute_major: int | None, compute_minor: int | None
) -> Accelerator:
    if memory_mib is None or compute_major is None or compute_minor is None:
        missing = [
            label
            for label, value in (
                ("nvidia.com/gpu.memory", memory_mib),
                ("nvidia.com/gpu.compute.major", compute_major),
                ("nvidia.com/gpu.compute.minor", compute_minor),
            )
            if value is None
        ]
        raise UnknownAccelerator(
            f"The GPU {product!r} is not in the catalogue and its nodes lack the label {' and '.join(missing)}; "
            "run GPU Feature Discovery on them, or name a card of the catalogue in spec.hardware.gpu.product."
        )
    worst = min(entry.shown for entry in _entries())
    return Accelerator(
        alias=product,
        product=product,
        memory_bytes=int(memory_mib * MIB * worst),
        compute_capability=(compute_major, compute_minor),
        provenance=Provenance.RECALLED,
        source=(
            f"node label nvidia.com/gpu.memory={memory_mib}, less {float(1 - worst):.1%} for the driver, the "
            "largest share of a card in the catalogue: this card was not checked"
        ),
    )


def _unknown(name: str) -> UnknownAccelerator:
    names = [accelerator.alias for accelerator in catalogue()]
    wanted = _normalise(name)
    by_normal = {_normalise(alias): alias for alias in names}
    nearest = [alias for key, alias in by_normal.items() if wanted and wanted in key][:3]
    if not nearest:
        nearest = [by_normal[key] for key in difflib.get_close_matches(wanted, by_normal, n=3, cutoff=0.5)]
    guess = f"did you mean {' or '.join(nearest)}? " if nearest else ""
    shown = repr(name if len(name) <= 80 else name[:77] + "...")  # noqa: PLR2004 - keeps the sentence short
    return UnknownAccelerator(
        f"GPU {shown} is not in the catalogue: {guess}Known are {', '.join(names)}; of any other card give the "
        "memory, such as --gpu-memory 80Gi."
    )


def _normalise(name: str) -> str:
    return _WITHOUT_SEPARATORS.sub("", name.lower())


def _by_name(name: str) -> _Entry | None:
    wanted = _normalise(name)
    return next((entry for entry in _entries() if wanted in entry.names), None)


@cache
def _entries() -> tuple[_Entry, ...]:
    text = resources.files("plimsoll.sizing").joinpath("gpus.toml").read_text("utf-8")
    return tuple(_entry(row) for row in tomllib.loads(text)["gpu"])


def _entry(row: dict[str, Any]) -> _Entry:
    products = tuple(row["products"])
    major, minor = row["compute_capability"]
    return _Entry(
        accelerator=Accelerator(
            alias=row["alias"],
            product=products[0],
            memory_bytes=_lowest_bytes(row["shown_gib"]),
            compute_capability=(major, minor),
            provenance=Provenance(row["provenance"]),
            source=row["source"],
            platform=row.get("platform", "cuda"),
        ),
        names=frozenset(_normalise(n) for n in (row["alias"], *row.get("aliases", ()), *products)),
        products=products,
        label_bytes=row["label_mib"] * MIB if "label_mib" in row else None,
        mig=tuple(_mig(row, name, gib) for name, gib in row.get("mig", {}).items()),
    )


def _mig(row: dict[str, Any], name: str, gib: str) -> MigProfile:
    return MigProfile(
        name=name,
        compute_slices=int(name.partition("g.")[0]),
        memory_bytes=_lowest_bytes(gib),
        provenance=Provenance(row["mig_provenance"]),
        source=row["mig_source"],
    )


def _lowest_bytes(printed_gib: str) -> int:
    """The least number of bytes that prints like this: supply is rounded down."""
    decimals = len(printed_gib.partition(".")[2])
    half_a_digit = Fraction(1, 2 * 10**decimals)
    return int((Fraction(printed_gib) - half_a_digit) * GIB)
