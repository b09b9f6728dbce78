"""What the terminal shows: stages, bills, news told once, and the result."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from rich.console import Console

from plimsoll.sandbox.expectations import Example, Expectation, Finding, Promise
from plimsoll.sandbox.live import News, Screen, bill, result_table, stage_table
from plimsoll.sandbox.trial import Result, Snapshot

GIB = 2**30


def text_of(*renderables: Any) -> str:
    console = Console(file=io.StringIO(), width=120)
    for renderable in renderables:
        console.print(renderable)
    return console.file.getvalue()


def deployment(name: str = "m", namespace: str = "default", **conditions: tuple[str, str]) -> dict[str, Any]:
    return {
        "kind": "ModelDeployment",
        "metadata": {"name": name, "namespace": namespace, "generation": 1, "uid": f"uid-{name}"},
        "status": {
            "conditions": [
                {
                    "type": kind,
                    "status": status,
                    "reason": reason,
                    "message": f"{reason} it is.",
                    "observedGeneration": 1,
                }
                for kind, (status, reason) in conditions.items()
            ]
        },
    }


def planned(gpus: int = 1, inputs_hash: str = "h") -> dict[str, Any]:
    found = deployment(Ready=("False", "Downloading"))
    found["status"]["plan"] = {
        "inputsHash": inputs_hash,
        "modelId": "acme/model",
        "gpus": gpus,
        "hardware": {"product": "NVIDIA-A10", "memoryBytes": 24 * GIB} if gpus else {},
        "perGpu": [
            {"part": "weights", "bytes": 12 * GIB, "source": "s"},
            {"part": "kv_cache", "bytes": 6 * GIB, "source": "s"},
            {"part": "state", "bytes": 0, "source": "s"},
        ],
        "maxModelLen": 32768,
        "limitedBy": "the model's own length",
        "kvCacheTokens": 50000,
    }
    return found


def event(uid: str, message: str, kind: str = "ModelDeployment", name: str = "m") -> dict[str, Any]:
    return {
        "metadata": {"uid": uid, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "involvedObject": {"kind": kind, "name": name, "namespace": "default"},
        "type": "Normal",
        "message": message,
    }


def test_a_row_shows_each_stage_and_what_is_waited_for() -> None:
    found = deployment(
        "mistral",
        "team",
        Sized=("True", "Planned"),
        Downloaded=("False", "Downloading"),
        Tested=("False", "TestFailed"),
        Available=("False", "Waiting"),
        Ready=("False", "Downloading"),
    )

    row = text_of(stage_table([found])).splitlines()[1]

    assert row.startswith("team/mistral")
    assert row.split()[1:7] == ["✔", "…", "·", "✗", "·", "…"]
    assert "Downloading: Downloading it is." in row


def test_the_table_keeps_its_stages_however_much_there_is_to_say() -> None:
    found = deployment("m" * 60, Sized=("True", "Planned"), Ready=("False", "Downloading"))
    found["status"]["conditions"][1]["message"] = "wait " * 200

    header, row = text_of(stage_table([found])).splitlines()

    assert header.split() == ["Model", "Sized", "Downloaded", "Loaded", "Tested", "Available", "Ready", "Now"]
    assert "✔" in row


def test_a_bill_shows_parts_in_proportion_and_leaves_out_what_is_nothing() -> None:
    lines = text_of(*bill(planned())).splitlines()

    assert lines[0] == "m: acme/model on 1 x NVIDIA-A10"
    assert lines[1].count("█") == 24
    assert lines[1].count("▒") == 12
    assert lines[2].strip() == "weights 12.00 GiB, KV cache 6.00 GiB"
    assert "context 32,768 tokens" in lines[3]


def test_a_bill_without_gpus_is_of_main_memory() -> None:
    lines = text_of(*bill(planned(gpus=0))).splitlines()

    assert lines[0].endswith("on CPU only")
    assert lines[1].endswith("18.00 GiB")


def test_news_is_told_once() -> None:
    news = News()
    first = Snapshot(deployments=(planned(),), events=(event("1", "sized"), event("2", "sized")))

    assert (len(news.bills(first)), [line.plain for line in news.events(first)]) == (1, ["m: sized"])
    assert (news.bills(first), news.events(first)) == ([], [])
    changed = Snapshot(
        deployments=(planned(inputs_hash="other"),), events=(*first.events, event("3", "downloading"))
    )
    assert (len(news.bills(changed)), [line.plain for line in news.events(changed)]) == (
        1,
        ["m: downloading"],
    )


def test_events_of_other_kinds_are_left_out() -> None:
    assert News().events(Snapshot(events=(event("1", "pulled", kind="Pod"),))) == []


def test_without_a_terminal_the_news_come_as_lines() -> None:
    console = Console(file=io.StringIO(), width=80)
    with Screen(console) as screen:
        screen.say("a line that is longer than the console is wide " + "x" * 80)
        screen.show(Snapshot(events=(event("1", "sized"),)), "0 of 1")

    said, shown = console.file.getvalue().splitlines()
    assert said.endswith("x" * 80)
    assert shown.endswith("m: sized")
    assert "\x1b" not in console.file.getvalue()


def test_on_a_terminal_the_table_lives() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with Screen(console) as screen:
        screen.show(Snapshot(deployments=(deployment(Ready=("True", "Serving")),)), "1 of 1 files")

    assert "1 of 1 files" in console.file.getvalue()


def test_the_result_names_what_was_promised_and_not_seen() -> None:
    def result(name: str, met: bool, seen: str, seconds: float | None) -> Result:
        example = Example(path=Path("x") / name, expectation=Expectation(promise=Promise.READY), objects=())
        return Result(example=example, finding=Finding(met=met, seen=seen), seconds=seconds)

    lines = text_of(
        result_table([result("a.yaml", True, "Ready", 6.2), result("b.yaml", False, "y" * 900, None)])
    )

    ok, failed = lines.splitlines()[1], " ".join(lines.splitlines()[2:])
    assert ok.split() == ["ok", "a.yaml", "6", "s", "Ready"]
    assert "FAILED" in failed
    assert "promised Ready; seen: yyy" in " ".join(failed.split())
    assert lines.count("y") < 400
