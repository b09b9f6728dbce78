"""`plimsoll catalogue`: the models and the GPUs that need no network, with where their facts come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.table import Table
from rich.text import Text

from plimsoll.cli.errors import WrongUsageError
from plimsoll.cli.output import Format, output_option, print_all, print_json
from plimsoll.sizing import catalogue as models
from plimsoll.sizing import gpus
from plimsoll.sizing.facts import Provenance
from plimsoll.sizing.selection import weight_files
from plimsoll.units import GIB, MIB, format_gib

if TYPE_CHECKING:
    from plimsoll.sizing.accelerators import Accelerator

MODELS = "models"
GPUS = "gpus"
_RECALLED = "*"
_EPILOG = """\b
Examples:
  plimsoll catalogue
  plimsoll catalogue models --match qwen3
  plimsoll catalogue gpus -o json
"""


@click.command(epilog=_EPILOG)
@click.argument("kind", required=False, type=click.Choice([MODELS, GPUS]))
@click.option("--match", metavar="TEXT", help="Only the names that contain this text, in whatever case.")
@output_option(Format.TABLE, Format.JSON)
def catalogue(kind: str | None, match: str | None, output: Format) -> None:
    """List the models and the GPUs of the bundled catalogue.

    Their names can be given to every command with no network. What nobody could check is marked, and an estimate
    that rests on it says so.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    if kind != GPUS:
        found[MODELS] = [model_document(name) for name in models.model_ids() if _matches(name, match)]
    if kind != MODELS:
        found[GPUS] = [gpu_document(card) for card in gpus.catalogue() if _matches(card.alias, match)]
    if not any(found.values()):
        raise WrongUsageError(
            f"--match {match!r}: no name of the catalogue contains it; leave it out to see all of them."
        )
    if output is Format.JSON:
        print_json({"version": models.CATALOGUE_VERSION, **found})
        return
    tables = [(_models, MODELS), (_gpus, GPUS)]
    print_all(
        [table(found[name]) for table, name in tables if found.get(name)]
        + [Text(f"{_RECALLED} recalled: from memory, and checked by nobody")]
    )


def model_document(model_id: str) -> dict[str, Any]:
    """One model of the catalogue.

    Raises:
        KeyError: the catalogue does not have it.
    """
    facts = models.lookup(model_id)
    if facts is None:
        raise KeyError(model_id)
    return {
        "id": facts.model_id,
        "architecture": facts.config["architectures"][0],
        "weights_bytes": sum(file.size_bytes for file in weight_files(facts.files)),
        "license": models.license_of(model_id),
        "gated": models.is_gated(model_id),
        "quantized_of": models.base_of(model_id),
        "provenance": facts.provenance.value,
        "source": facts.source,
    }


def gpu_document(card: Accelerator) -> dict[str, Any]:
    """One GPU of the catalogue."""
    label = gpus.label_memory_mib(card)
    return {
        "alias": card.alias,
        "product": card.product,
        "memory_bytes": card.memory_bytes,
        "label_memory_mib": label if label * MIB > card.memory_bytes else None,
        "compute_capability": ".".join(map(str, card.compute_capability)),
        "platform": card.platform,
        "provenance": card.provenance.value,
        "source": card.source,
        "mig_profiles": [
            {"name": known.name, "memory_bytes": known.memory_bytes, "provenance": known.provenance.value}
            for known in gpus.mig_profiles(card)
        ],
    }


def _matches(name: str, text: str | None) -> bool:
    return text is None or text.lower() in name.lower()


def _mark(document: dict[str, Any]) -> str:
    return _RECALLED if document["provenance"] == Provenance.RECALLED else ""


def _models(documents: list[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("Model", overflow="fold")
    table.add_column("Weights", justify="right", no_wrap=True)
    table.add_column("Licence", no_wrap=True)
    for one in documents:
        licence = f"{one['license']}, gated" if one["gated"] else one["license"]
        table.add_row(f"{one['id']}{_mark(one)}", format_gib(one["weights_bytes"]), licence)
    return table


def _gpus(documents: list[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("GPU", no_wrap=True)
    table.add_column("Shown to the engine", justify="right", no_wrap=True)
    table.add_column("Label MiB", justify="right", no_wrap=True)
    table.add_column("Capability", justify="right", no_wrap=True)
    for one in documents:
        platform = "" if one["platform"] == "cuda" else f" {one['platform']}"
        table.add_row(
            f"{one['alias']}{_mark(one)}{platform}",
            f"{one['memory_bytes'] / GIB:.2f} GiB",
            f"{one['label_memory_mib']:,}" if one["label_memory_mib"] else "",
            one["compute_capability"],
        )
    return table
