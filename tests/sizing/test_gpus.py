from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll.sizing.facts import Provenance
from plimsoll.sizing.gpus import UnknownAccelerator, catalogue, find, from_label, label_memory_mib
from plimsoll.units import GIB, MIB

ALIASES = [accelerator.alias for accelerator in catalogue()]


@pytest.mark.parametrize(
    ("name", "alias"),
    [
        ("A10", "A10"),
        ("a10g", "A10G"),
        ("a100-80gb", "A100-80GB"),
        ("A100_80 GB", "A100-80GB"),
        ("NVIDIA-A100-SXM4-80GB", "A100-80GB"),
        ("nvidia a100 80gb pcie", "A100-80GB"),
        ("Tesla-V100-SXM2-16GB", "V100-16GB"),
        ("H100-80GB", "H100"),
        ("NVIDIA-H100-80GB-HBM3", "H100"),
        ("rtx4090", "RTX-4090"),
        ("Tesla-T4", "T4"),
    ],
)
def test_a_card_is_found_by_alias_or_label_however_it_is_written(name: str, alias: str) -> None:
    assert find(name).alias == alias


@pytest.mark.parametrize(
    ("alias", "gib", "compute_capability"),
    [
        # What torch printed for these cards, to the digits printed; see gpus.toml for where.
        ("T4", "14.56", (7, 5)),
        ("L4", "22.0", (8, 9)),
        ("A10", "22.07", (8, 6)),
        ("A10G", "22.06", (8, 6)),
        ("V100-16GB", "15.77", (7, 0)),
        ("V100-32GB", "31.74", (7, 0)),
        ("A100-40GB", "39.49", (8, 0)),
        ("A100-80GB", "79.25", (8, 0)),
        ("H100", "79.15", (9, 0)),
        ("H200", "139.80", (9, 0)),
    ],
)
def test_the_memory_is_the_least_that_prints_as_the_engine_printed_it(
    alias: str, gib: str, compute_capability: tuple[int, int]
) -> None:
    card = find(alias)
    half_a_digit = Fraction(1, 2 * 10 ** len(gib.partition(".")[2]))
    assert card.memory_bytes == int((Fraction(gib) - half_a_digit) * GIB)
    assert card.compute_capability == compute_capability


@pytest.mark.parametrize("alias", ALIASES)
def test_every_card_says_where_its_memory_was_read_and_shows_less_than_its_label(alias: str) -> None:
    card = find(alias)
    assert card.source
    assert card.provenance is Provenance.MEASURED
    label_bytes = label_memory_mib(card) * MIB
    # The driver keeps up to 3 % for itself: a figure outside is a slip of the pen.
    assert label_bytes * Fraction(95, 100) < card.memory_bytes < label_bytes


@pytest.mark.parametrize("alias", ALIASES)
def test_the_labels_of_a_catalogue_card_lead_to_that_card(alias: str) -> None:
    card = find(alias)
    assert from_label(card.product, label_memory_mib(card), *card.compute_capability) == card
    assert from_label(card.product, None, None, None) == card


@pytest.mark.parametrize(
    ("product", "memory_mib", "expected_bytes"),
    [
        pytest.param("NVIDIA-A10", 22731, find("A10").memory_bytes, id="older-driver-leaves-its-share-out"),
        pytest.param("NVIDIA-A10", 11514, find("A10").memory_bytes // 2, id="half-a-card"),
        pytest.param("NVIDIA-GeForce-RTX-4090", 49128, find("RTX-4090").memory_bytes * 2, id="rebuilt-card"),
    ],
)
def test_a_label_that_shows_another_size_wins_over_the_table(
    product: str, memory_mib: int, expected_bytes: int
) -> None:
    assert from_label(product, memory_mib, None, None).memory_bytes == expected_bytes


def test_a_card_that_the_table_lacks_is_taken_at_the_safe_end_and_marked() -> None:
    card = from_label("NVIDIA-A100-SXM4-80GB-MIG-3g.40gb", 40192, 8, 0)
    assert (card.alias, card.product) == ("NVIDIA-A100-SXM4-80GB-MIG-3g.40gb",) * 2
    assert card.compute_capability == (8, 0)
    assert card.provenance is Provenance.RECALLED
    worst = min(Fraction(c.memory_bytes, label_memory_mib(c) * MIB) for c in catalogue())
    assert card.memory_bytes == int(40192 * MIB * worst)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("A100", "did you mean A100-40GB or A100-80GB?"),
        ("V100", "did you mean V100-16GB or V100-32GB?"),
        ("H1000", "did you mean H100"),
        ("", "is not in the catalogue: Known are T4"),
        ("banana", "is not in the catalogue: Known are T4"),
        ("x" * 500, "'" + "x" * 77 + "...'"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_and_all_names(name: str, says: str) -> None:
    with pytest.raises(UnknownAccelerator) as caught:
        find(name)
    assert says in str(caught.value)
    assert ", ".join(ALIASES) in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (("NVIDIA-X", None, 8, 0), "nvidia.com/gpu.memory"),
        (("NVIDIA-X", 1000, None, 0), "nvidia.com/gpu.compute.major"),
        (("NVIDIA-A10", 0, 8, 6), "nvidia.com/gpu.memory is 0"),
        (("NVIDIA-A10", -5, 8, 6), "nvidia.com/gpu.memory is -5"),
    ],
)
def test_labels_that_say_too_little_are_refused_by_name(
    labels: tuple[str, int | None, int | None, int | None], says: str
) -> None:
    with pytest.raises(UnknownAccelerator) as caught:
        from_label(*labels)
    assert says in str(caught.value)


@given(st.sampled_from([*(c.product for c in catalogue()), "NVIDIA-NEW"]), st.integers(1, 400_000))
def test_no_label_leads_to_more_memory_than_it_shows(product: str, memory_mib: int) -> None:
    assert from_label(product, memory_mib, 8, 0).memory_bytes <= memory_mib * MIB


@given(st.text(max_size=40))
def test_any_text_finds_a_card_or_a_sentence(name: str) -> None:
    try:
        found = find(name).alias
    except UnknownAccelerator as error:
        found = str(error)
    assert found in ALIASES or found.endswith("such as --gpu-memory 80Gi.")
