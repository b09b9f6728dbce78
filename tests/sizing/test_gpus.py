from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll.sizing.accelerators import NodePool
from plimsoll.sizing.catalogue import lookup
from plimsoll.sizing.estimate import estimate
from plimsoll.sizing.facts import Provenance
from plimsoll.sizing.gpus import (
    UnknownAccelerator,
    catalogue,
    checked_cards,
    find,
    from_label,
    label_memory_mib,
    mig_profiles,
    mig_slice,
)
from plimsoll.sizing.plan import Plan
from plimsoll.sizing.serving import Serving
from plimsoll.sizing.shape import shape_from_facts
from plimsoll.units import GIB, MIB

ALIASES = [accelerator.alias for accelerator in catalogue()]
WITHOUT_LABEL = ("GB10", "MI300X", "MI325X")  # NVML tells no memory of them


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
    label_bytes = label_memory_mib(card) * MIB
    if alias in WITHOUT_LABEL:
        assert label_bytes == card.memory_bytes // MIB * MIB
    else:
        # The driver keeps up to 5 % for itself (4.5 % on L4): a figure outside is a slip of the pen.
        assert label_bytes * Fraction(95, 100) < card.memory_bytes < label_bytes


def test_cards_whose_memory_nobody_read_are_marked() -> None:
    recalled = {card.alias for card in catalogue() if card.provenance is Provenance.RECALLED}
    assert recalled == {
        "A40",
        "L20",
        "RTX-A6000",
        "RTX-A5000",
        "RTX-5080",
        "A800-80GB",
        "H100-PCIe",
        "H20",
        "GH200",
        "GB200",
        "MI325X",
    }


def test_only_cards_that_were_read_on_cuda_and_share_no_memory_are_proposed() -> None:
    proposed = {card.alias for card in checked_cards()}
    assert {"H100", "H200", "B300", "L4"} <= proposed
    assert not proposed & {"GB10", "MI300X", "MI325X", "H20", "A40"}


def test_cards_of_amd_are_known_to_run_on_rocm() -> None:
    assert {card.alias for card in catalogue() if card.platform == "rocm"} == {"MI300X", "MI325X"}


def test_a_plan_on_rocm_says_what_was_fitted_elsewhere() -> None:
    facts = lookup("mistralai/Mistral-7B-Instruct-v0.3")
    assert facts is not None
    pool = NodePool(name="x", accelerator=find("MI300X"), gpus_per_node=1, nodes=1)
    found = estimate(shape_from_facts(facts), facts, Serving(engine_version="0.33.0"), (pool,))
    assert isinstance(found, Plan)
    assert any(warning.startswith("MI300X runs vLLM on ROCm") for warning in found.warnings)


def profile_cases() -> list[tuple[str, str]]:
    return [(card.alias, profile.name) for card in catalogue() for profile in mig_profiles(card)]


@pytest.mark.parametrize(("alias", "profile"), profile_cases())
def test_a_slice_is_a_card_of_its_own_with_less_memory_than_its_name_says(alias: str, profile: str) -> None:
    card = find(alias)
    found = find(f"{alias}-MIG-{profile}")
    compute, _, gigabytes = profile.removesuffix("gb").partition("g.")
    assert (found.alias, found.product) == (f"{alias}-MIG-{profile}", f"{card.product}-MIG-{profile}")
    assert found.compute_capability == card.compute_capability
    # Names round the share of the marketing figure up or down; the driver keeps a share of each slice.
    assert 0.8 * int(gigabytes) * GIB < found.memory_bytes <= min(card.memory_bytes, int(gigabytes) * GIB)
    assert int(compute) in {known.compute_slices for known in mig_profiles(card)}


@pytest.mark.parametrize(
    ("product", "memory_mib", "expected_bytes"),
    [
        pytest.param("NVIDIA-A100-SXM4-80GB-MIG-3g.40gb", 40192, 40192 * MIB, id="the-label-wins"),
        pytest.param(
            "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb",
            None,
            find("H100-MIG-1g.10gb").memory_bytes,
            id="the-table-where-there-is-no-label",
        ),
        pytest.param("NVIDIA-B200-MIG-4g.90gb", 90000, 90000 * MIB, id="a-profile-that-the-table-lacks"),
        pytest.param(
            "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb",
            99999,
            find("A100-40GB").memory_bytes,
            id="never-more-than-the-card",
        ),
    ],
)
def test_the_labels_of_a_node_of_slices_lead_to_a_slice(
    product: str, memory_mib: int | None, expected_bytes: int
) -> None:
    found = from_label(product, memory_mib, None, None)
    assert (found.product, found.memory_bytes) == (product, expected_bytes)


@pytest.mark.parametrize(
    ("alias", "profile", "says"),
    [
        pytest.param("H100", "9g.1gb", "which has 1g.10gb, 1g.20gb", id="no-such-profile"),
        pytest.param("L4", "1g.3gb", "which has none", id="a-card-that-cannot-be-cut"),
    ],
)
def test_a_slice_of_unknown_memory_is_refused_with_the_label_that_would_say_it(
    alias: str, profile: str, says: str
) -> None:
    with pytest.raises(UnknownAccelerator) as caught:
        mig_slice(find(alias), profile)
    assert says in str(caught.value)
    assert f"nvidia.com/mig-{profile}.memory" in str(caught.value)


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
    card = from_label("NVIDIA-NEW-40GB", 40192, 8, 0)
    assert (card.alias, card.product) == ("NVIDIA-NEW-40GB",) * 2
    assert card.compute_capability == (8, 0)
    assert card.provenance is Provenance.RECALLED
    labelled = (c for c in catalogue() if c.alias not in WITHOUT_LABEL)
    worst = min(Fraction(c.memory_bytes, label_memory_mib(c) * MIB) for c in labelled)
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


@given(
    st.sampled_from([*(c.product for c in catalogue() if c.alias not in WITHOUT_LABEL), "NVIDIA-NEW"]),
    st.integers(1, 400_000),
)
def test_no_label_leads_to_more_memory_than_it_shows(product: str, memory_mib: int) -> None:
    assert from_label(product, memory_mib, 8, 0).memory_bytes <= memory_mib * MIB


@given(st.text(max_size=40))
def test_any_text_finds_a_card_or_a_sentence(name: str) -> None:
    try:
        found = find(name).alias
    except UnknownAccelerator as error:
        found = str(error)
    assert found in ALIASES or found.endswith("such as --gpu-memory 80Gi.")
