"""What each fault of the Hub, its storage or a mirror becomes."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from plimsoll.hub.client import HubClient
from plimsoll.hub.download import HubProblem, Retries, WrongBytesError
from plimsoll.reconcile.sources import HubFailureKind
from plimsoll.sandbox.hubstandin import GOOD_TOKEN, Fault, HubStandIn
from support.downloads import CONFIG, FILES, LARGE, SHA, SMALL, Bench

if TYPE_CHECKING:
    pass


@pytest.fixture
def bench(hub: HubStandIn, tmp_path: Path) -> Bench:
    hub.add_repo("org/tiny", FILES)
    return Bench(hub, tmp_path / "model")


async def test_a_hub_that_moves_a_file_elsewhere_gets_the_token_and_elsewhere_does_not(bench: Bench) -> None:
    async with HubStandIn(with_catalogue=False) as elsewhere:
        location = {"Location": f"{elsewhere.url}/steal", "X-Linked-Size": "1"}
        bench.hub.faults.append(Fault(match="model-00001", status=302, headers=location))
        with pytest.raises(HubProblem, match="where the Hub keeps model-00001"):
            await bench.run(GOOD_TOKEN, retries=Retries(tries=2))
        assert {request.authorized for request in elsewhere.requests} == {False}


async def test_a_connection_that_breaks_again_and_again_is_taken_up_where_it_broke(bench: Bench) -> None:
    bench.hub.faults.append(Fault(match="00001", cut_after_bytes=30_000))
    await bench.run()
    assert bench.has(FILES)
    assert set(bench.pauses) == {1.0}
    assert bench.hub.served_bytes("00001") == len(LARGE)


@pytest.mark.parametrize(
    ("fault", "kind", "pauses"),
    [
        pytest.param(
            Fault(status=429, headers={"Retry-After": "17"}),
            HubFailureKind.RATE_LIMITED,
            [17.0, 17.0],
            id="limit",
        ),
        pytest.param(
            Fault(status=429, headers={"Retry-After": "900"}),
            HubFailureKind.RATE_LIMITED,
            [],
            id="limited-for-long",
        ),
        pytest.param(Fault(status=503), HubFailureKind.UNREACHABLE, [1.0, 2.0], id="unavailable"),
        pytest.param(Fault(status=401), HubFailureKind.NOT_FOUND, [], id="hidden"),
        pytest.param(
            Fault(status=403, headers={"X-Error-Code": "GatedRepo"}), HubFailureKind.GATED, [], id="gated"
        ),
    ],
)
@pytest.mark.parametrize("answered", [True, False], ids=["mended", "for-good"])
async def test_a_refusing_hub_is_asked_again_as_often_and_as_late_as_it_makes_sense(
    bench: Bench, fault: Fault, kind: HubFailureKind, pauses: list[float], answered: bool
) -> None:
    bench.hub.faults.append(replace(fault, match="00002-of-00002", times=len(pauses) if answered else None))
    if answered:
        await bench.run(retries=Retries(tries=3))
        assert bench.has(FILES)
    else:
        with pytest.raises(HubProblem) as caught:
            await bench.run(retries=Retries(tries=3))
        assert caught.value.kind is kind
    assert bench.pauses == pauses


async def test_a_limit_of_the_storage_is_told_with_the_wait_that_it_asks(bench: Bench) -> None:
    bench.hub.faults.append(Fault(match="/blobs/", status=429, headers={"Retry-After": "400"}))
    with pytest.raises(HubProblem) as caught:
        await bench.run()
    assert caught.value.failure.retry_after_seconds == 400
    assert caught.value.kind is HubFailureKind.RATE_LIMITED


async def test_a_signed_address_that_expired_is_asked_for_anew(bench: Bench) -> None:
    bench.hub.faults.append(Fault(match="/blobs/", status=403, times=1))
    await bench.run(retries=Retries(tries=2))
    assert bench.has(FILES)
    asked = [r.path for r in bench.hub.requests if "/resolve/" in r.path and r.path.endswith(".safetensors")]
    assert len(asked) == 3  # one for each file, and one for the new address


async def test_a_host_that_stops_sending_is_asked_again_and_then_told_of(bench: Bench) -> None:
    bench.hub.faults.append(Fault(match="00002-of-00002", delay_seconds=30))
    with pytest.raises(HubProblem, match="did not answer in time"):
        await bench.run(retries=Retries(tries=2, stall_seconds=1))
    assert 1.0 in bench.pauses


async def test_a_slow_host_is_waited_for_and_its_rate_is_told(bench: Bench) -> None:
    bench.hub.faults.append(Fault(match="00002-of", bytes_per_second=20_000))
    await bench.run()
    assert bench.has(FILES)
    assert bench.told[-1].bytes == bench.told[-1].total


async def test_a_host_without_ranges_gives_the_file_whole(bench: Bench) -> None:
    bench.hub.faults.append(Fault(match="00001", no_ranges=True))
    report = await bench.run()
    assert bench.has(FILES)
    assert bench.told[-1].bytes == report.bytes


async def test_a_host_without_ranges_that_breaks_begins_again(bench: Bench) -> None:
    bench.hub.faults.append(Fault(match="00001", no_ranges=True))
    bench.hub.faults.append(Fault(match="00001", cut_after_bytes=900_000, times=3))
    report = await bench.run()
    assert bench.has(FILES)
    assert bench.told[-1].bytes == report.bytes


@pytest.mark.parametrize(
    ("path", "digest", "spoilt"),
    [
        pytest.param("model-00001-of-00002.safetensors", f"sha256 {SHA}", LARGE, id="by-ranges"),
        pytest.param("model-00002-of-00002.safetensors", "sha256 ", SMALL, id="whole"),
        pytest.param("config.json", "git-sha1 ", CONFIG, id="beside-lfs"),
    ],
)
async def test_wrong_bytes_are_fetched_once_more_and_then_named_with_what_was_expected_and_got(
    bench: Bench, path: str, digest: str, spoilt: bytes
) -> None:
    bench.hub.faults.append(Fault(match=path, wrong_bytes=True))
    with pytest.raises(
        WrongBytesError, match=f"^{path} of org/tiny at .*expected {digest}.*, got "
    ) as caught:
        await bench.run(range_bytes=len(LARGE) - 1)
    if digest == "sha256 ":
        wrong = bytes([spoilt[0] ^ 0xFF]) + spoilt[1:]
        assert sha256(wrong).hexdigest() in str(caught.value)
    assert not (bench.folder / path).exists()
    assert not [name for name in bench.parts() if name.startswith(SHA)] or path.startswith("model-00002")


async def test_bytes_that_were_wrong_once_are_mended_from_zero(bench: Bench) -> None:
    bench.hub.faults.append(Fault(match="00001", wrong_bytes=True, times=1))
    report = await bench.run()
    assert bench.has(FILES)
    assert bench.hub.served_bytes("00001") == 2 * len(LARGE)
    assert bench.told[-1].bytes == report.bytes


async def test_a_page_in_the_place_of_a_file_is_wrong_by_its_size(bench: Bench) -> None:
    bench.hub.faults.append(Fault(match="/blobs/", status=200, body=b"<html>log in</html>"))
    with pytest.raises(WrongBytesError, match=r"is listed with \d+ bytes .* and 19 were offered"):
        await bench.run()


@pytest.mark.parametrize("spoilt", [False, True])
@pytest.mark.parametrize(
    "etags",
    [pytest.param({}, id="none"), pytest.param(dict.fromkeys(FILES, "0" * 40), id="of-lfs-pointers")],
)
async def test_a_mirror_that_lists_no_hashes_of_weights_is_held_to_those_of_its_answers(
    bench: Bench, etags: dict[str, str], spoilt: bool
) -> None:
    metadata = await HubClient(bench.hub.url).metadata("org/tiny", "main")
    metadata = replace(metadata, etags={p: e for p, e in etags.items() if p.endswith(".safetensors")})
    if spoilt:
        bench.hub.faults.append(Fault(match="00001", wrong_bytes=True))
        with pytest.raises(WrongBytesError, match=f"expected sha256 {SHA}"):
            await bench.run(metadata=metadata)
        return
    await bench.run(metadata=metadata)
    assert bench.has(FILES)
    bench.hub.served.clear()
    await bench.run(metadata=metadata)
    assert bench.hub.served == []
