"""Which card a log means by the name that it gives."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from plimsoll.sizing import gpus
from plimsoll.sizing.accelerators import Accelerator
from plimsoll.sizing.facts import Provenance
from plimsoll.units import GIB

if TYPE_CHECKING:
    from plimsoll.accuracy.rows import LogRow

_NOT_A_NAME: Final = re.compile(r"[^a-z0-9]+")
# "L40S class (44.40 GiB)", "Jetson Thor (122 GiB unified)": what the driver showed, unless it is the size on the box.
_SHOWN: Final = re.compile(r"\b(\d{1,4}(?:\.\d{1,4})?) GiB\b")
# A card of the catalogue with another size on the box is another card (H100 80 and 94 GB).
_SAME_SIZE: Final = Decimal("0.12")
# Cards by their name, of which only what they can is known here; sources: NVIDIA's list of compute capabilities.
_CAPABILITIES: Final = (
    ("h100", (9, 0)),
    ("h200", (9, 0)),
    ("h800", (9, 0)),
    ("h20", (9, 0)),
    ("gh200", (9, 0)),
    ("b200", (10, 0)),
    ("gb200", (10, 0)),
    ("b300", (10, 3)),
    ("gb300", (10, 3)),
    ("gb10", (12, 1)),
    ("thor", (11, 0)),
    ("rtxpro", (12, 0)),
    ("rtx50", (12, 0)),
    ("a100", (8, 0)),
    ("a800", (8, 0)),
    ("a30", (8, 0)),
    ("a10", (8, 6)),
    ("a16", (8, 6)),
    ("a40", (8, 6)),
    ("rtxa", (8, 6)),
    ("rtx30", (8, 6)),
    ("l4", (8, 9)),
    ("l20", (8, 9)),
    ("rtx40", (8, 9)),
    ("rtx6000ada", (8, 9)),
    ("rtx5000ada", (8, 9)),
    ("rtx4000ada", (8, 9)),
    ("rtx2000ada", (8, 9)),
    ("v100", (7, 0)),
    ("t4", (7, 5)),
    ("rtx20", (7, 5)),
)
# Cards of other makers, by the words of their names: nothing of the engine was fitted on their stacks.
_PLATFORMS: Final = (
    ("rocm", re.compile(r"\b(?:amd|radeon|instinct|rocm|mi\d{3}x?|gfx\d+)\b", re.IGNORECASE)),
    (
        "other",
        re.compile(r"\b(?:ascend|npu|intel|arc|xpu|gaudi\d?|hpu|tpu|mlu|kunlun\w*|metax)\b", re.IGNORECASE),
    ),
)
ABLE: Final = (9, 0)  # refuses least, so that the row's own start decides
_MAKERS: Final = {"nvidia", "amd", "geforce", "tesla"}
_USUAL_BYTES: Final = 80 * GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """The card of a row.

    Attributes:
        memory_known: whether its memory was printed or stands in the catalogue.
        catalogued: whether it is one of the catalogue's.
        assumed: what was taken for lack of better, in words.
    """

    accelerator: Accelerator
    memory_known: bool
    catalogued: bool
    assumed: tuple[str, ...] = ()


def card_of(row: LogRow) -> Card:
    """The card that a row ran on, its memory as printed or as the catalogue has it."""
    name = row.gpu or ""
    known = _catalogued(name, row.gpu_mem_gib)
    if known is not None and not _same_size(known, row.gpu_mem_gib):
        known = None
    shown = row.gpu_total_reported_gib or _printed(name, row.gpu_mem_gib)
    assumed: list[str] = []
    if shown is not None:
        memory = int(shown * GIB)
    elif known is not None:
        memory = known.memory_bytes
        assumed.append(f"the total memory of {known.alias} from the catalogue")
    else:
        memory = int(row.gpu_mem_gib * GIB) if row.gpu_mem_gib else _USUAL_BYTES
    if known is not None:
        accelerator = replace(known, memory_bytes=memory)
    else:
        capability = _capability(name)
        if capability is None:
            capability = ABLE
            assumed.append(f"compute capability {capability[0]}.{capability[1]} for a card without a name")
        accelerator = Accelerator(
            alias=name or "a card without a name",
            product=name,
            memory_bytes=max(memory, 1),
            compute_capability=capability,
            provenance=Provenance.MEASURED,
            source=row.source or "",
            platform=next((platform for platform, names in _PLATFORMS if names.search(name)), "cuda"),
        )
    return Card(
        accelerator=accelerator,
        memory_known=shown is not None or known is not None,
        catalogued=known is not None,
        assumed=tuple(assumed),
    )


def _printed(name: str, box_gib: Decimal | None) -> Decimal | None:
    match = _SHOWN.search(name)
    if match is None or Decimal(match[1]) == box_gib or not Decimal(match[1]):
        return None
    return Decimal(match[1])


def _same_size(card: Accelerator, box_gib: Decimal | None) -> bool:
    if box_gib is None:
        return True
    has = Decimal(card.memory_bytes) / GIB
    return abs(box_gib - has) <= _SAME_SIZE * has


def _catalogued(name: str, box_gib: Decimal | None) -> Accelerator | None:
    """The card of the catalogue with the longest name whose words all stand in the text, or the size beside it."""
    words = _words(name)
    if box_gib is not None:
        words |= {f"{box_gib.normalize():f}gb"}
    found: tuple[int, Accelerator | None] = (0, None)
    for card in gpus.catalogue():
        for alias in (card.alias, card.product):
            form = _words(alias) - _MAKERS
            if form <= words and len("".join(form)) > found[0]:
                found = (len("".join(form)), card)
    return found[1]


def _words(name: str) -> frozenset[str]:
    return frozenset(_NOT_A_NAME.sub(" ", name.lower()).split())


def _capability(name: str) -> tuple[int, int] | None:
    text = _NOT_A_NAME.sub("", name.lower())
    found = [(len(form), capability) for form, capability in _CAPABILITIES if form in text]
    return max(found)[1] if found else None
