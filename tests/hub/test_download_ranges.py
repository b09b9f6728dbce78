"""The download of large files: by ranges, resumed after a kill, beside what else lies on the volume."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from plimsoll.hub import parts
from plimsoll.hub.download import FolderProblem, HubProblem, Retries
from plimsoll.hub.ranges import read_journal
from plimsoll.sandbox.hubstandin import GOOD_TOKEN, Fault, HubStandIn
from support.downloads import CONFIG, FILES, LARGE, RANGE, SHA, SMALL, Bench, starts

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def bench(hub: HubStandIn, tmp_path: Path) -> Bench:
    hub.add_repo("org/tiny", FILES)
    return Bench(hub, tmp_path / "model")


async def test_only_a_file_over_the_threshold_comes_by_ranges_and_each_byte_once(bench: Bench) -> None:
    report = await bench.run()
    assert bench.has(FILES)
    assert report.bytes == sum(map(len, FILES.values()))
    assert starts(bench.hub) == list(range(0, len(LARGE), RANGE))
    assert starts(bench.hub, "00002-of") == [0]
    assert bench.hub.served_bytes() == report.bytes
    assert bench.parts() == []


async def test_a_file_of_exactly_the_threshold_comes_whole(bench: Bench) -> None:
    await bench.run(ranges_over_bytes=len(LARGE))
    assert starts(bench.hub) == [0]


async def test_the_token_goes_to_the_hub_and_never_to_the_storage(bench: Bench) -> None:
    bench.hub.add_repo("org/tiny", FILES, gated=True)
    await bench.run(GOOD_TOKEN)
    assert {(r.storage, r.authorized) for r in bench.hub.requests} == {(False, True), (True, False)}


async def test_a_volume_that_fills_up_on_the_way_is_told_and_what_came_is_kept(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = os.pwrite

    def full(descriptor: int, data: bytes, offset: int) -> int:
        if offset >= 500_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return really(descriptor, data, offset)

    monkeypatch.setattr(parts.os, "pwrite", full)
    with pytest.raises(FolderProblem, match=r"is full .*make the volume larger"):
        await bench.run()
    monkeypatch.undo()
    kept = read_journal((bench.workshop / "parts" / f"{SHA}.ranges").read_text(), len(LARGE))
    assert kept
    bench.hub.served.clear()
    await bench.run()
    assert bench.has(FILES)
    assert not set(starts(bench.hub)) & {span.start for span in kept}


async def test_what_parts_hold_already_needs_no_room(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.hub.faults.append(Fault(match="/blobs/", status=500, times=None))
    with pytest.raises(HubProblem):
        await bench.run(retries=Retries(tries=1))
    part = bench.workshop / "parts" / f"{SHA}.part"
    part.write_bytes(LARGE[:900_000])
    os.truncate(part, len(LARGE))
    part.with_suffix(".ranges").write_text("0-700000\n")
    bench.hub.faults.clear()
    free = {"bytes": 50_000}
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": free["bytes"]}))
    with pytest.raises(FolderProblem, match="make the volume larger"):
        await bench.run()
    free["bytes"] = 200_000
    await bench.run()
    assert bench.has(FILES)
    assert bench.hub.served_bytes("00001") == len(LARGE) - 700_000


async def test_a_file_that_was_changed_by_hand_is_fetched_again_and_a_right_one_is_taken_as_it_is(
    bench: Bench,
) -> None:
    await bench.run()
    (bench.folder / "model-00002-of-00002.safetensors").write_bytes(b"x" * len(SMALL))
    (bench.folder / "model-00001-of-00002.safetensors").write_bytes(LARGE)
    bench.hub.served.clear()
    await bench.run()
    assert bench.has(FILES)
    assert [entry.path for entry in bench.hub.served] == ["model-00002-of-00002.safetensors"]


async def test_files_of_one_content_and_files_without_content_all_come(bench: Bench) -> None:
    files = FILES | {"a.json": b"", "b.json": b"", "c.json": CONFIG, "copy.safetensors": LARGE}
    bench.hub.add_repo("org/tiny", files)
    report = await bench.run()
    assert bench.has(files)
    assert bench.told[-1].bytes == report.bytes == sum(map(len, files.values()))


async def test_orphaned_parts_go_and_nothing_else_on_the_volume_does(bench: Bench) -> None:
    folders = (bench.folder, bench.folder.parent / "dead", bench.folder.parent / "alive")
    for folder in folders:
        made = folder / ".cache" / "plimsoll"
        (made / "parts").mkdir(parents=True)
        (made / "lock").touch()
        for path in ("parts/0123.part", "parts/0123.ranges", "parts/mine.txt", "0123.part"):
            (made / path).write_text("old")
        (folder / "user.part").write_text("a user's")
        (folder / "abc.incomplete").write_text("another tool's")
    before = {path for path in bench.folder.parent.rglob("*") if path.is_file()}
    with (folders[2] / ".cache" / "plimsoll" / "lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        await bench.run()
    gone = {path for path in before if not path.exists()}
    assert gone == {
        folder / ".cache" / "plimsoll" / "parts" / name
        for folder in folders[:2]
        for name in ("0123.part", "0123.ranges")
    }


async def test_two_downloads_into_one_folder_do_not_mix(bench: Bench) -> None:
    bench.workshop.mkdir(parents=True)
    with (bench.workshop / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(FolderProblem, match="another download is writing into") as caught:
            await bench.run()
    assert caught.value.retryable
    await bench.run()
    assert bench.has(FILES)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 128 + signal.SIGTERM)],
    ids=["killed", "told-to-end"],
)
async def test_a_killed_download_goes_on_where_it_was(bench: Bench, number: int, status: int) -> None:
    bench.hub.faults.append(Fault(match="00001", after=5, bytes_per_second=1_000))
    journal = bench.workshop / "parts" / f"{SHA}.ranges"
    command = (
        *("-m", "plimsoll", "download", "org/tiny", "--to", str(bench.folder)),
        *("--ranges-over", "100000", "--range-size", "50000"),
    )

    async def start(hub: HubStandIn) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            env=os.environ | {"HF_ENDPOINT": hub.url},
            stdout=asyncio.subprocess.DEVNULL,
        )

    def finished() -> set[int]:
        return {span.start for span in read_journal(journal.read_text(), len(LARGE))}

    process = await start(bench.hub)
    try:
        await until(lambda: journal.exists() and len(finished()) >= 3)
        process.send_signal(number)
        assert await asyncio.wait_for(process.wait(), timeout=60) == status
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    kept = finished()
    whole = {path for path in FILES if (bench.folder / path).exists()}
    assert "config.json" in whole
    assert not (bench.folder / "model-00001-of-00002.safetensors").exists()
    # Another stand-in with the same commit: late requests of the killed one do not reach it.
    async with HubStandIn(with_catalogue=False) as hub:
        hub.add_repo("org/tiny", FILES)
        assert await asyncio.wait_for((await start(hub)).wait(), timeout=60) == 0
        assert bench.has(FILES)
        # Finished ranges are not fetched again, nor are the files that were whole; all else comes once.
        assert starts(hub) == sorted(set(range(0, len(LARGE), 50_000)) - kept)
        assert hub.served_bytes("00001") <= len(LARGE) - (len(kept) - 1) * 50_000
        assert not {entry.path for entry in hub.served} & whole
