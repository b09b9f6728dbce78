from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RevisionNotFoundError

from plimsoll.sandbox.hubstandin import GOOD_TOKEN, UNENTITLED_TOKEN, Fault, HubStandIn
from plimsoll.sandbox.hubstandin_command import main
from plimsoll.sizing import catalogue

WEIGHTS = bytes(range(256)) * 5000
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": WEIGHTS,
    "sub/x.txt": b"x",
}


async def test_the_official_client_reads_metadata_unchanged(hub: HubStandIn) -> None:
    commit = hub.add_repo("org/tiny", FILES, parameters_by_dtype={"BF16": 3})
    info = await asyncio.to_thread(
        HfApi(endpoint=hub.url, token=False).model_info, "org/tiny", files_metadata=True
    )
    assert info.sha == commit
    assert {s.rfilename: s.size for s in info.siblings or ()} == {
        path: len(data) for path, data in FILES.items()
    }
    assert info.safetensors is not None
    assert info.safetensors.parameters == {"BF16": 3}


async def test_expand_gives_only_what_is_asked_for(hub: HubStandIn) -> None:
    api = HfApi(endpoint=hub.url, token=False)
    info = await asyncio.to_thread(api.model_info, "facebook/opt-125m", expand=["sha", "gated"])
    assert (info.sha, info.gated) == (hub.commit_of("facebook/opt-125m"), False)
    assert info.siblings is None


@pytest.mark.parametrize("recursive", [True, False])
async def test_the_tree_lists_files_and_folders_as_the_hub_does(hub: HubStandIn, recursive: bool) -> None:
    hub.add_repo("org/tiny", FILES)
    api = HfApi(endpoint=hub.url, token=False)
    entries = await asyncio.to_thread(lambda: list(api.list_repo_tree("org/tiny", recursive=recursive)))
    folders = [] if recursive else ["sub"]
    files = list(FILES) if recursive else ["config.json", "model.safetensors"]
    assert sorted(entry.path for entry in entries) == sorted(files + folders)


async def test_the_official_client_downloads_a_snapshot(hub: HubStandIn, tmp_path: Path) -> None:
    commit = hub.add_repo("org/tiny", FILES)
    await asyncio.to_thread(
        snapshot_download, "org/tiny", revision=commit, local_dir=tmp_path, endpoint=hub.url, token=False
    )
    assert {path: (tmp_path / path).read_bytes() for path in FILES} == FILES


@pytest.mark.parametrize(
    ("repo", "path", "revision", "token", "error"),
    [
        ("meta-llama/Llama-2-13b-chat-hf", "config.json", "main", False, GatedRepoError),
        ("meta-llama/Llama-2-13b-chat-hf", "config.json", "main", UNENTITLED_TOKEN, GatedRepoError),
        ("facebook/opt-125m", "nothing.json", "main", False, EntryNotFoundError),
        ("facebook/opt-125m", "config.json", "v0", False, RevisionNotFoundError),
        ("facebook/opt-125m", "pytorch_model.bin", "main", False, EntryNotFoundError),
    ],
    ids=["no-token", "no-licence", "no-entry", "no-revision", "size-only"],
)
async def test_the_official_client_raises_what_it_raises_at_the_real_hub(
    hub: HubStandIn,
    tmp_path: Path,
    repo: str,
    path: str,
    revision: str,
    token: str | bool,
    error: type[Exception],
) -> None:
    def download() -> None:
        hf_hub_download(repo, path, revision=revision, local_dir=tmp_path, endpoint=hub.url, token=token)

    with pytest.raises(error):
        await asyncio.to_thread(download)


async def test_a_good_token_opens_a_gated_repository(hub: HubStandIn, tmp_path: Path) -> None:
    repo = "meta-llama/Llama-2-13b-chat-hf"
    path = await asyncio.to_thread(
        hf_hub_download, repo, "config.json", local_dir=tmp_path, endpoint=hub.url, token=GOOD_TOKEN
    )
    assert b'"num_hidden_layers": 40' in Path(path).read_bytes()


def test_commits_are_the_same_on_every_start_and_differ_from_each_other() -> None:
    first, second = HubStandIn(), HubStandIn()
    commits = [first.commit_of(model) for model in catalogue.model_ids()]
    assert commits == [second.commit_of(model) for model in catalogue.model_ids()]
    assert len(set(commits)) == len(commits)
    assert {len(commit) for commit in commits} == {40}


async def weights_address(hub: HubStandIn) -> str:
    commit = hub.add_repo("org/tiny", FILES)
    async with httpx2.AsyncClient(base_url=hub.url) as client:
        answer = await client.get(f"/org/tiny/resolve/{commit}/model.safetensors")
    assert answer.status_code == 302
    return str(answer.headers["Location"])


@pytest.mark.parametrize(
    ("asked", "status", "told", "got"),
    [
        ("bytes=1000000-", 206, "bytes 1000000-1279999/1280000", WEIGHTS[1_000_000:]),
        ("bytes=10-19", 206, "bytes 10-19/1280000", WEIGHTS[10:20]),
        ("bytes=-7", 206, "bytes 1279993-1279999/1280000", WEIGHTS[-7:]),
        ("bytes=1279990-9999999", 206, "bytes 1279990-1279999/1280000", WEIGHTS[-10:]),
        ("bytes=1280000-", 416, "bytes */1280000", b""),
        ("bytes=x", 200, None, WEIGHTS),
        (None, 200, None, WEIGHTS),
    ],
    ids=["rest", "middle", "last", "beyond", "behind-the-end", "nonsense", "none"],
)
async def test_the_storage_gives_ranges(
    hub: HubStandIn, asked: str | None, status: int, told: str | None, got: bytes
) -> None:
    address = await weights_address(hub)
    async with httpx2.AsyncClient() as client:
        response = await client.get(address, headers={"Range": asked} if asked else {})
    assert (response.status_code, response.headers.get("Content-Range")) == (status, told)
    assert response.content == got
    assert hub.served_bytes("model.safetensors") == len(got)


@pytest.mark.parametrize(("same", "status"), [(True, 206), (False, 200)])
async def test_if_range_gives_the_whole_file_when_it_is_another(
    hub: HubStandIn, same: bool, status: int
) -> None:
    address = await weights_address(hub)
    async with httpx2.AsyncClient() as client:
        tag = (await client.head(address)).headers["ETag"] if same else '"another"'
        response = await client.get(address, headers={"Range": "bytes=5-9", "If-Range": tag})
    assert response.status_code == status


async def test_the_storage_is_another_origin_that_refuses_a_token_and_an_unsigned_address(
    hub: HubStandIn,
) -> None:
    address = await weights_address(hub)
    assert address.startswith(hub.storage_url)
    assert hub.storage_url != hub.url
    async with httpx2.AsyncClient() as client:
        with_token = await client.get(address, headers={"Authorization": f"Bearer {GOOD_TOKEN}"})
        unsigned = await client.get(address.partition("?")[0])
    assert (with_token.status_code, unsigned.status_code) == (400, 403)


async def test_the_official_client_takes_a_gated_snapshot_and_keeps_the_token_from_the_storage(
    hub: HubStandIn, tmp_path: Path
) -> None:
    hub.add_repo("org/gated", FILES, gated=True)
    await asyncio.to_thread(
        snapshot_download, "org/gated", local_dir=tmp_path, endpoint=hub.url, token=GOOD_TOKEN
    )
    assert (tmp_path / "model.safetensors").read_bytes() == WEIGHTS
    assert {(request.storage, request.authorized) for request in hub.requests} == {
        (False, True),
        (True, False),
    }


async def test_the_official_client_notices_wrong_bytes_no_more_than_at_the_real_hub(
    hub: HubStandIn, tmp_path: Path
) -> None:
    hub.add_repo("org/tiny", FILES)
    hub.faults.append(Fault(match="model.safetensors", wrong_bytes=True, bytes_per_second=10**9))
    path = await asyncio.to_thread(
        hf_hub_download, "org/tiny", "model.safetensors", local_dir=tmp_path, endpoint=hub.url, token=False
    )
    assert Path(path).read_bytes() == b"\xff" + WEIGHTS[1:]


async def test_a_fault_hits_as_often_as_it_was_told(hub: HubStandIn) -> None:
    hub.faults.append(Fault(match="opt-125m", status=503, times=2))
    async with httpx2.AsyncClient(base_url=hub.url) as client:
        codes = [(await client.get("/api/models/facebook/opt-125m")).status_code for _ in range(3)]
    assert codes == [503, 503, 200]


@pytest.mark.parametrize("path", ["/", "/api/datasets/x", "/a/b/c/d/e", "/api/models/"])
async def test_other_pages_are_not_found(hub: HubStandIn, path: str) -> None:
    async with httpx2.AsyncClient(base_url=hub.url) as client:
        assert (await client.get(path)).status_code == 404


async def test_the_command_serves_folders_until_it_is_told_to_stop(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(FILES["config.json"])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "plimsoll.sandbox.hubstandin_command"),
        *(
            "--repo",
            f"org/here={tmp_path}",
            "--repo",
            f"org/spoilt={tmp_path}",
            "--repo",
            f"org/gated={tmp_path}",
        ),
        *("--gated", "org/gated", "--wrong-bytes", "org/spoilt", "--bytes-per-second", "1000000"),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), timeout=30)
        url = line.decode().split()[-1]
        async with httpx2.AsyncClient(base_url=url, follow_redirects=True) as client:
            answers = [
                await client.get(f"/org/{name}/resolve/main/config.json")
                for name in ("here", "spoilt", "gated")
            ]
        assert [answer.status_code for answer in answers] == [200, 200, 401]
        told = [json.loads(await asyncio.wait_for(process.stdout.readline(), timeout=30)) for _ in range(2)]
        entry = {"path": "config.json", "start": 0, "sent_bytes": len(FILES["config.json"])}
        assert told == [{"served": entry}, {"served": entry}]
        config = FILES["config.json"]
        assert [answer.content for answer in answers[:2]] == [config, bytes([config[0] ^ 0xFF]) + config[1:]]
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), timeout=30) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("text", ["x", "x=", "=5", "x=0", "x=5:0", "x=fast"])
def test_a_slow_file_that_is_not_told_whole_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--slow", text])

    assert ended.value.code == 2
    assert "must be PART=RATE or PART=RATE:TIMES" in capsys.readouterr().err
