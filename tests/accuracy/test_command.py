from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from accuracy_samples import LLAMA, RAN, write_configs
from click.testing import CliRunner, Result

from plimsoll.cli.main import cli

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(__file__).parent / "data"


def run(*arguments: str | Path, piped: str | None = None) -> Result:
    return CliRunner().invoke(cli, ["accuracy", *map(str, arguments)], input=piped, env={"COLUMNS": "100"})


def lines(path: Path, *rows: Mapping[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    return write_configs(tmp_path / "configs", broken={"architectures": ["NoSuchModel"]})


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    return lines(
        tmp_path / "logs.jsonl",
        {**RAN, "id": "right", "available_kv_gib": 10.0, "attention": "plain GQA"},
        {**RAN, "id": "wrong", "available_kv_gib": 8.0, "attention": "plain GQA", "vllm_version": None},
        {**RAN, "id": "unknown", "model": "a/b"},
    )


def test_json_has_the_names_that_programs_read(logs: Path, configs: Path) -> None:
    result = run(logs, "--configs", configs, "-o", "json")
    document = json.loads(result.stdout)

    assert (result.exit_code, result.stderr) == (0, "")
    assert list(document) == [
        "rows",
        "scored",
        "skipped",
        "available_kv",
        "kv_tokens",
        "weights",
        "bytes_per_token",
        "verdict",
        "misses",
    ]
    assert document["available_kv"] == {
        "n": 2,
        "median_abs_error": 0.125,
        "p90_abs_error": 0.225,
        "unsafe_share": 0.5,
        "over_promised_by_point": 0.5,
        "interval_coverage": 0.5,
        "interval_width": 0.0,
    }
    assert document["verdict"] == {"n": 2, "correct": 2, "unsafe": 0, "wasteful": 0}
    assert [(miss["id"], miss["error"]) for miss in document["misses"]] == [("wrong", 0.25)]


def test_text_shows_sums_groups_misses_and_what_was_skipped(logs: Path, configs: Path) -> None:
    result = run(logs, "--configs", configs)
    text = " ".join(result.stdout.split())

    assert result.exit_code == 0
    for words in (
        "2 of 3 rows scored",
        "available_kv 2 12.50 % 22.50 % 50.00 % promised over 5 % too much at the safe end, which plans reckon with",
        "verdict 2 2 right, 0 unsafe, 0 wasteful",
        "By attention:",
        "plain GQA 2 2 12.50 % 22.50 % 2/2",
        "By GPU:",
        "H100 2 2",
        "By quantization:",
        "none 2 2",
        "By vLLM:",
        "0.19 1 1 0.00 %",
        "not said 1 1 25.00 %",
        "The worst 1 of 1 misses:",
        "wrong: available_kv, ours 10.0, the log's 8.0",
        "1 rows skipped:",
        "unknown no config of a/b in the folder",
    ):
        assert words in text


def test_a_table_of_plans_is_held_number_for_number(tmp_path: Path, configs: Path) -> None:
    row = {
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "vllm": "0.33.0",
        "gpu": "h100-80",
        "tp": 3,
        "pp": 1,
        "status": "refused",
        "refusal": "parallel",
    }
    table = lines(
        tmp_path / "table.jsonl",
        row,
        {**row, "refusal": "hardware"},
        {**row, "model_file": "broken", "status": "ok"},
    )
    document = json.loads(run("--oracle", table, "--configs", configs, "-o", "json").stdout)
    text = run("--oracle", table, "--configs", configs).stdout

    assert (document["rows"], document["scored"], document["equal"]) == (3, 3, 1)
    assert document["mismatches"] == [
        {"line": 2, "field": "refusal", "ours": "parallel", "theirs": "hardware"}
    ]
    assert [(one["line"], one["reason"]) for one in document["refused"]] == [(3, "UnsupportedModel")]
    assert "1 of 3 rows equal in every number" in text
    assert "1 refused by name (1 with a whole config), 1 with a mismatch" in text
    assert "NoSuchModel" in text


def test_a_log_becomes_a_row_that_can_be_scored_at_once(tmp_path: Path, configs: Path) -> None:
    printed = run("--from-log", DATA / "v1_serves.log")
    row = {**json.loads(printed.stdout), "model": RAN["model"], "gpu": "H100-80GB"}
    sums = json.loads(run(lines(tmp_path / "own.jsonl", row), "--configs", configs, "-o", "json").stdout)

    assert (printed.exit_code, printed.stderr, printed.stdout.count("\n")) == (0, "", 1)
    assert (sums["scored"], sums["available_kv"]["n"]) == (1, 1)


def test_a_log_may_come_through_a_pipe() -> None:
    result = run("--from-log", "-", piped="Available KV cache memory: 4.57 GiB\n")

    assert (result.exit_code, json.loads(result.stdout)["available_kv_gib"]) == (0, 4.57)


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        pytest.param((), 2, "say what to score", id="nothing"),
        pytest.param(("LOGS", "--oracle", "LOGS"), 2, "say what to score", id="two things"),
        pytest.param(("LOGS",), 2, "--configs DIR is missing", id="no configs"),
        pytest.param(("LOGS", "--configs", "NONE"), 2, "there is no such folder", id="no such folder"),
        pytest.param(("NONE", "--configs", "CONFIGS"), 2, "cannot be read (No such file", id="no such file"),
        pytest.param(
            ("CONFIGS", "--configs", "CONFIGS"), 2, "cannot be read (Is a directory)", id="a folder"
        ),
        pytest.param(("BINARY", "--configs", "CONFIGS"), 2, "the text is not UTF-8", id="no text"),
        pytest.param(
            ("TYPES", "--configs", "CONFIGS"), 2, "kv_tokens is 'many': it must be a number", id="types"
        ),
        pytest.param(
            ("--oracle", "TYPES", "--configs", "CONFIGS"), 2, "gpu is None: it must be a string", id="table"
        ),
        pytest.param(("--from-log", "NONE"), 2, "cannot be read", id="no log"),
        pytest.param(("--from-log", "TYPES"), 1, "no line of vLLM", id="a log without lines of memory"),
    ],
)
def test_wrong_input_gets_one_sentence(
    tmp_path: Path, logs: Path, configs: Path, arguments: tuple[str, ...], status: int, sentence: str
) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    files = {
        "LOGS": logs,
        "CONFIGS": configs,
        "NONE": tmp_path / "none",
        "BINARY": tmp_path / "binary",
        "TYPES": lines(tmp_path / "types.jsonl", {"model": RAN["model"], "kv_tokens": "many"}),
    }
    result = run(*(str(files.get(argument, argument)) for argument in arguments))

    assert result.exit_code == status
    assert result.stdout == ""
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.strip().count("\n") == 0


def test_a_config_cannot_be_reached_by_the_name_of_a_model(tmp_path: Path, configs: Path) -> None:
    (tmp_path / "outside.json").write_text(json.dumps(LLAMA))
    path = lines(tmp_path / "logs.jsonl", {**RAN, "model": "../outside", "available_kv_gib": 1.0})
    document = json.loads(run(path, "--configs", configs, "-o", "json").stdout)

    assert document["skipped"] == [{"id": "row", "reason": "no config of ../outside in the folder"}]


def test_the_open_logs_are_scored_and_every_row_is_accounted_for() -> None:
    logs = ROOT / "bench" / "data" / "vllm-logs.jsonl"
    document = json.loads(
        run(
            logs,
            "--configs",
            ROOT / "bench" / "data" / "configs",
            "-o",
            "json",
        ).stdout
    )
    reasons = ("no config of", "the config of", "the GPU's memory", "the utilisation", "nothing was measured")

    assert document["rows"] == len(logs.read_text().splitlines())
    assert document["scored"] + len(document["skipped"]) == document["rows"]
    assert [row for row in document["skipped"] if not row["reason"].startswith(reasons)] == []
    assert document["available_kv"]["n"] >= 85
    assert document["verdict"]["n"] == sum(
        document["verdict"][key] for key in ("correct", "unsafe", "wasteful")
    )


def test_the_picture_is_svg_with_a_curve_for_each_estimator() -> None:
    root = ET.parse(ROOT / "docs" / "accuracy.svg").getroot()
    names = [path[0].text for path in root.iter("{http://www.w3.org/2000/svg}path")]

    assert names == ["Plimsoll", "KAITO", "llm-d-planner"]
