from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from plimsoll.cli.main import cli
from plimsoll.hub.config import MAX_CONFIG_BYTES
from plimsoll.reconcile.reports import DownloadReport, parse, parse_progress
from plimsoll.sandbox.hubstandin import GOOD_TOKEN, UNENTITLED_TOKEN, Fault, HubStandIn

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = b'{"architectures": ["OPTForCausalLM"], "model_type": "opt"}'
WEIGHTS = bytes(range(256)) * 4096
FILES = {
    "config.json": CONFIG,
    "tokenizer.json": b"{}",
    "model-00001-of-00002.safetensors": WEIGHTS,
    "model-00002-of-00002.safetensors": WEIGHTS[:1000],
    "pytorch_model.bin": WEIGHTS,
    "original/consolidated.00.pth": WEIGHTS,
    "README.md": b"read me",
}
LOADED = (
    "config.json",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "tokenizer.json",
)


async def download(hub: HubStandIn, folder: Path, *options: str, token: str | None = None) -> Result:
    environ = {"HF_ENDPOINT": hub.url, "HF_TOKEN": token}
    arguments = [
        "download",
        "org/tiny",
        "--to",
        str(folder),
        "--report",
        str(folder.parent / "report"),
        *options,
    ]
    return await asyncio.to_thread(lambda: CliRunner().invoke(cli, arguments, env=environ))


def report_of(folder: Path) -> DownloadReport:
    report = parse((folder.parent / "report").read_text())
    assert isinstance(report, DownloadReport)
    return report


def on_disk(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    found = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith(".cache/")}


def contents_fetched(hub: HubStandIn) -> list[str]:
    return sorted(
        request.path.rsplit("/", 1)[-1]
        for request in hub.requests
        if request.method == "GET" and request.path.startswith(("/blobs/", "/api/resolve-cache/"))
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "model"


async def test_a_model_is_downloaded_as_the_engine_loads_it(hub: HubStandIn, folder: Path) -> None:
    commit = hub.add_repo("org/tiny", FILES)
    result = await download(hub, folder, "--revision", commit)
    assert (result.exit_code, result.stderr) == (0, "")
    assert on_disk(folder) == {path: FILES[path] for path in LOADED}
    total = sum(len(FILES[path]) for path in LOADED)
    assert report_of(folder) == DownloadReport(bytes=total, files=4, commit=commit)


async def test_no_file_is_fetched_twice_in_a_run_or_in_the_next(hub: HubStandIn, folder: Path) -> None:
    commit = hub.add_repo("org/tiny", FILES)
    await download(hub, folder, "--revision", commit)
    assert contents_fetched(hub) == sorted(LOADED)
    hub.requests.clear()
    assert (await download(hub, folder, "--revision", commit)).exit_code == 0
    assert [request.path for request in hub.requests] == [f"/api/models/org/tiny/revision/{commit}"]


async def test_every_line_of_output_is_progress_and_the_last_one_is_complete(
    hub: HubStandIn, folder: Path
) -> None:
    hub.add_repo("org/tiny", FILES)
    hub.faults.append(Fault(match="/blobs/", delay_seconds=0.4))
    result = await download(hub, folder, "--progress-seconds", "0.1")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(lines) > 2
    assert {line["kind"] for line in lines} == {"progress"}
    counts = [line["bytes"] for line in lines]
    assert counts == sorted(counts)
    last = parse_progress(result.stdout)
    assert last is not None
    assert last.bytes == last.total == sum(len(FILES[path]) for path in LOADED)


@pytest.mark.parametrize(
    ("patterns", "weights"),
    [
        (["*.bin"], ["pytorch_model.bin"]),
        (["model-00002*"], ["model-00002-of-00002.safetensors"]),
        (["original/"], ["original/consolidated.00.pth"]),
    ],
)
async def test_patterns_choose_the_weights_and_the_rest_comes_along(
    hub: HubStandIn, folder: Path, patterns: list[str], weights: list[str]
) -> None:
    hub.add_repo("org/tiny", FILES)
    options = [option for pattern in patterns for option in ("--allow-pattern", pattern)]
    assert (await download(hub, folder, *options)).exit_code == 0
    assert sorted(on_disk(folder)) == sorted(["config.json", "tokenizer.json", *weights])


async def test_another_commit_replaces_what_changed_even_at_the_same_size(
    hub: HubStandIn, folder: Path
) -> None:
    hub.add_repo("org/tiny", FILES)
    await download(hub, folder)
    changed = FILES | {"model-00002-of-00002.safetensors": b"z" * 1000}
    commit = hub.add_repo("org/tiny", changed)
    hub.requests.clear()
    assert (await download(hub, folder)).exit_code == 0
    assert on_disk(folder) == {path: changed[path] for path in LOADED}
    assert contents_fetched(hub) == ["model-00002-of-00002.safetensors"]
    assert report_of(folder).commit == commit


async def test_a_file_of_another_commit_is_not_taken_for_the_right_one_when_the_hub_fails(
    hub: HubStandIn, folder: Path
) -> None:
    hub.add_repo("org/tiny", FILES)
    await download(hub, folder)
    hub.add_repo("org/tiny", FILES | {"tokenizer.json": b"[]"})
    hub.faults.append(Fault(match="tokenizer.json", status=503))
    result = await download(hub, folder, "--tries", "1")
    assert result.exit_code == 3
    assert report_of(folder).error is not None


async def test_a_broken_connection_is_taken_up_again(hub: HubStandIn, folder: Path) -> None:
    hub.add_repo("org/tiny", FILES)
    hub.faults.append(Fault(match="00001-of-00002", cut_after_bytes=100_000, times=1))
    result = await download(hub, folder)
    assert result.exit_code == 0
    assert on_disk(folder)["model-00001-of-00002.safetensors"] == WEIGHTS


@pytest.mark.parametrize(
    ("fault", "status", "says"),
    [
        pytest.param(Fault(match="/api/models/", status=503), 3, "answered 503", id="hub-down"),
        pytest.param(Fault(match="/api/models/", status=429), 3, "limits the rate", id="rate-limited"),
        pytest.param(Fault(match="/resolve/", status=521), 3, "answered 521", id="down-at-the-files"),
        pytest.param(
            Fault(match="/resolve/", status=429), 3, "limits the rate", id="rate-limited-at-the-files"
        ),
        pytest.param(Fault(match="/blobs/", status=500), 3, "where the Hub keeps model-", id="storage-down"),
        pytest.param(Fault(match="/resolve/", status=403), 1, "does not let the token read", id="forbidden"),
        pytest.param(Fault(match="model-00001", wrong_bytes=True), 1, "wrong bytes, twice", id="wrong-bytes"),
    ],
)
async def test_trouble_with_the_hub_ends_with_one_sentence_and_a_status_that_says_whether_to_retry(
    hub: HubStandIn, folder: Path, fault: Fault, status: int, says: str
) -> None:
    commit = hub.add_repo("org/tiny", FILES)
    hub.faults.append(Fault(match=fault.match, status=fault.status, wrong_bytes=fault.wrong_bytes))
    result = await download(hub, folder, "--revision", commit, "--tries", "1")
    assert result.exit_code == status
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1
    report = report_of(folder)
    assert (report.commit, report.error is not None and says in report.error) == (commit, True)


@pytest.mark.parametrize(
    ("options", "files", "gated", "says"),
    [
        pytest.param([], {"config.json": CONFIG}, False, "no weight file", id="no-weights"),
        pytest.param(
            ["--allow-pattern", "*.gguf"], FILES, False, "matches *.gguf", id="pattern-matches-nothing"
        ),
        pytest.param(["--revision", "v9"], FILES, False, "no revision 'v9'", id="no-revision"),
        pytest.param(["--revision", "../x"], FILES, False, "a path is not one", id="revision-is-a-path"),
        pytest.param([], FILES, True, "is gated", id="gated"),
        pytest.param([], FILES | {"config.json": b"{"}, False, "is not JSON", id="config-is-not-json"),
        pytest.param([], FILES | {"config.json": b"{}"}, False, "not a transformer's", id="no-transformer"),
        pytest.param(
            [],
            FILES | {"config.json": b" " * (MAX_CONFIG_BYTES + 1)},
            False,
            "over the bound",
            id="huge-config",
        ),
        pytest.param(
            [], {"model.safetensors": WEIGHTS, "a.json": b"{}"}, False, "has no config.json", id="no-config"
        ),
        pytest.param(
            ["--allow-pattern", "*"],
            FILES | {"../evil.json": b"{}"},
            False,
            "outside the model's folder",
            id="path-leaves",
        ),
    ],
)
async def test_what_no_retry_mends_is_refused(
    hub: HubStandIn, folder: Path, options: list[str], files: dict[str, bytes], gated: bool, says: str
) -> None:
    hub.add_repo("org/tiny", files, gated=gated)
    result = await download(hub, folder, *options)
    assert result.exit_code == 1
    assert says in result.stderr
    assert report_of(folder).error is not None
    assert not [name for name in contents_fetched(hub) if name.endswith(".safetensors")]


async def test_each_token_that_does_not_open_a_gated_model_is_told_apart(
    hub: HubStandIn, folder: Path
) -> None:
    hub.add_repo("org/tiny", FILES, gated=True)
    said = []
    for token in (None, UNENTITLED_TOKEN, "hf_mistyped"):
        result = await download(hub, folder, token=token)
        said.append((result.exit_code, result.stderr))
    assert [code for code, _ in said] == [1, 1, 1]
    assert "no token was given" in said[0][1]
    assert "accept the licence" in said[1][1]
    assert "does not know the token" in said[2][1]


async def test_a_token_from_the_environment_opens_a_gated_model(hub: HubStandIn, folder: Path) -> None:
    hub.add_repo("org/tiny", FILES, gated=True)
    result = await download(hub, folder, token=GOOD_TOKEN)
    assert result.exit_code == 0
    assert GOOD_TOKEN not in result.output + (folder.parent / "report").read_text()


async def test_a_volume_that_is_too_small_is_refused_before_anything_is_fetched(
    hub: HubStandIn, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add_repo("org/tiny", FILES)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    result = await download(hub, folder)
    assert result.exit_code == 1
    assert "make the volume larger" in result.stderr
    assert contents_fetched(hub) == []


async def test_a_folder_that_cannot_be_made_is_refused(hub: HubStandIn, tmp_path: Path) -> None:
    hub.add_repo("org/tiny", FILES)
    (tmp_path / "file").write_text("")
    result = await download(hub, tmp_path / "file" / "model")
    assert result.exit_code == 1
    assert "cannot be written (Not a directory)" in result.stderr


async def test_a_report_that_cannot_be_written_does_not_spoil_the_download(
    hub: HubStandIn, folder: Path
) -> None:
    hub.add_repo("org/tiny", FILES)
    result = await download(hub, folder, "--report", str(folder / "no" / "such" / "report"))
    assert result.exit_code == 0
    assert "cannot be written" in result.stderr
