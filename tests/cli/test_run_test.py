"""The test runner: what it asks of the engine itself, and what it leaves behind."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from plimsoll.cli.probe import PROOF_TOKEN, Engine, check_name, prove_context
from plimsoll.cli.promptfoo import Verdict
from plimsoll.cli.run_test import run_test
from plimsoll.reconcile.reports import TestReport as Report
from plimsoll.reconcile.reports import parse

RECORDED = Path(__file__).parent / "recorded_promptfoo"


@dataclass
class FakeEngine:
    """A small HTTP server that plays the engine; `broken` says how."""

    broken: str | None = None
    seen: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)
    url: str = ""
    max_model_len: int = 64

    def models(self) -> tuple[int, Any]:
        names = {"name": "other"}
        if self.broken in {"401", "404", "503"}:
            return int(self.broken), {"error": "no"}
        return 200, {"data": [{"id": names.get(self.broken or "", "m")}]}

    def completion(self, body: dict[str, Any]) -> tuple[int, Any]:
        prompt = len(body["prompt"])
        if self.broken == "shorter" and prompt + body["max_tokens"] >= self.max_model_len:
            return 400, {"error": {"message": "maximum context length is less"}}
        if self.broken == "dies":
            return 500, {"error": "EngineDeadError"}
        counted = prompt // 2 if self.broken == "truncates" else prompt
        name = "other" if self.broken == "answers as another" else body["model"]
        return 200, {"model": name, "usage": {"prompt_tokens": counted}, "choices": [{"text": "x"}]}


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Iterator[FakeEngine]:
    fake = FakeEngine(broken=getattr(request, "param", None))

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def answer(self, status: int, body: Any) -> None:
            fake.keys.add(self.headers.get("Authorization"))
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def do_GET(self) -> None:
            assert self.path == "/v1/models"
            self.answer(*fake.models())

        def do_POST(self) -> None:
            assert self.path == "/v1/completions"
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            fake.seen.append(body)
            self.answer(*fake.completion(body))

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield fake
    server.shutdown()
    thread.join()
    server.server_close()


def target(fake: FakeEngine, key: str | None = None) -> Engine:
    return Engine(base_url=fake.url, served_model_name="m", api_key=key)


def test_the_longest_request_has_exactly_the_tokens_of_the_context(engine: FakeEngine) -> None:
    outcome = prove_context(target(engine, "k"), 64, timeout_seconds=5)

    assert (outcome.verdict, outcome.report.proven_context) == (Verdict.PASSED, 64)
    assert engine.seen == [{"model": "m", "prompt": [PROOF_TOKEN] * 63, "max_tokens": 1, "temperature": 0}]
    assert engine.keys == {"Bearer k"}


@pytest.mark.parametrize(
    ("engine", "verdict", "said"),
    [
        pytest.param("shorter", Verdict.FAILED, "a request of 64 tokens is served (HTTP 400)", id="refused"),
        pytest.param(
            "truncates", Verdict.FAILED, "a prompt of 63 tokens is read whole (usage: 31)", id="cut in secret"
        ),
        pytest.param(
            "answers as another", Verdict.FAILED, "the engine answers under its name", id="another name"
        ),
        pytest.param(
            "dies",
            Verdict.ERROR,
            "the engine answered HTTP 500 to a request of 64 tokens; read the server's log.",
            id="died",
        ),
    ],
    indirect=["engine"],
)
def test_a_context_that_is_not_served_is_not_proven(engine: FakeEngine, verdict: Verdict, said: str) -> None:
    outcome = prove_context(target(engine), 64, timeout_seconds=5)

    assert (outcome.verdict, outcome.report.proven_context) == (verdict, None)
    assert said in (outcome.report.error, *(failure.test for failure in outcome.report.failures))


def test_an_engine_that_is_gone_is_an_error_that_may_mend_itself() -> None:
    gone = Engine(base_url="http://127.0.0.1:1/v1", served_model_name="m")

    assert prove_context(gone, 64, timeout_seconds=5).verdict is Verdict.ERROR


@pytest.mark.parametrize(
    ("engine", "verdict"),
    [
        pytest.param("name", Verdict.FAILED, id="serves under another name"),
        pytest.param("401", Verdict.FAILED, id="refuses the key"),
        pytest.param("404", Verdict.FAILED, id="has no such API"),
        pytest.param("503", Verdict.ERROR, id="is not there yet"),
    ],
    indirect=["engine"],
)
def test_the_engine_is_asked_for_its_name_first(engine: FakeEngine, verdict: Verdict) -> None:
    outcome = check_name(target(engine), patience_seconds=0)

    assert outcome is not None
    assert outcome.verdict is verdict


@pytest.mark.parametrize("engine", ["503"], indirect=True)
def test_an_engine_that_comes_up_late_is_waited_for(engine: FakeEngine) -> None:
    def pause(_seconds: float) -> None:
        engine.broken = None

    assert check_name(target(engine), patience_seconds=60, pause=pause) is None


def test_the_key_is_not_shown() -> None:
    assert "secret" not in repr(Engine(base_url="u", served_model_name="m", api_key="secret"))


# Stands where promptfoo stands in the command line only; what promptfoo itself writes is recorded above.
REPLAY = """#!{python}
import json, pathlib, sys
arguments = sys.argv[1:]
pathlib.Path(arguments[arguments.index("-o") + 1]).write_text(pathlib.Path({recording!r}).read_text())
pathlib.Path({log!r}).write_text(json.dumps(arguments))
"""


@dataclass
class Runner:
    """`plimsoll run-test` in a folder of its own."""

    folder: Path

    def __call__(
        self, fake: FakeEngine, recording: str | None, suite: str = "providers: [openai:chat:m]"
    ) -> Result:
        (self.folder / "suite.yaml").write_text(suite)
        program = self.folder / "promptfoo"
        if recording is not None:
            text = REPLAY.format(
                python=sys.executable,
                recording=str(RECORDED / f"{recording}.json"),
                log=str(self.folder / "arguments.json"),
            )
            program.write_text(text)
            program.chmod(0o755)
        arguments = [
            "--suite",
            str(self.folder / "suite.yaml"),
            "--base-url",
            fake.url,
            "--served-model-name",
            "m",
        ]
        arguments += ["--max-model-len", "64", "--promptfoo", str(program), "--patience-seconds", "0"]
        arguments += ["--report", str(self.folder / "reports" / "full.json")]
        arguments += ["--message", str(self.folder / "message")]
        return CliRunner().invoke(run_test, arguments, env={"OPENAI_API_KEY": "key-of-the-engine"})

    def message(self) -> Report:
        report = parse((self.folder / "message").read_text())
        assert isinstance(report, Report)
        return report


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


def test_a_suite_that_passes_is_followed_by_the_proof(engine: FakeEngine, runner: Runner) -> None:
    result = runner(engine, "good-chat")

    assert result.exit_code == 0, result.output
    assert result.output.strip() == ("Passed: 7 of 7 assertions held, and a request of 64 tokens was served.")
    report = runner.message()
    assert (report.passed, report.total, report.proven_context) == (7, 7, 64)
    assert report.report == str(runner.folder / "reports" / "full.json").lstrip("/")
    full = json.loads((runner.folder / "reports" / "full.json").read_text())
    assert full["promptfoo"] == json.loads((RECORDED / "good-chat.json").read_text())
    assert full["plimsoll"]["provenContext"] == 64


def test_nothing_is_proven_after_a_suite_that_failed(engine: FakeEngine, runner: Runner) -> None:
    result = runner(engine, "loop-chat")

    assert (result.exit_code, engine.seen) == (100, [])
    assert runner.message().failures[0].assertion == "not-one-repeated-token"


@pytest.mark.parametrize("engine", ["shorter"], indirect=True)
def test_a_context_that_is_refused_fails_the_test(engine: FakeEngine, runner: Runner) -> None:
    result = runner(engine, "good-chat")

    assert result.exit_code == 100
    assert runner.message().failed == 1


@pytest.mark.parametrize("engine", ["name"], indirect=True)
def test_the_suite_is_not_run_against_an_engine_of_another_name(engine: FakeEngine, runner: Runner) -> None:
    result = runner(engine, "good-chat")

    assert result.exit_code == 100
    assert runner.message().failures[0].assertion == "served-model-name"
    assert not (runner.folder / "arguments.json").exists()


def test_an_image_without_promptfoo_says_so(engine: FakeEngine, runner: Runner) -> None:
    result = runner(engine, None)

    assert result.exit_code == 1
    assert "cannot be run" in (runner.message().error or "")


@pytest.mark.parametrize(
    ("suite", "expected"),
    [
        pytest.param("providers: [openai:chat:m]", False, id="names whom it asks"),
        pytest.param("targets: [openai:chat:m]", False, id="by promptfoo's other word"),
        pytest.param("tests: []", True, id="names nobody"),
        pytest.param("- a list", False, id="is no configuration"),
        pytest.param("a: [", False, id="is no YAML"),
    ],
)
def test_a_suite_that_names_no_provider_is_given_the_engine(
    engine: FakeEngine, runner: Runner, suite: str, expected: bool
) -> None:
    runner(engine, "good-chat", suite)

    arguments = json.loads((runner.folder / "arguments.json").read_text())

    assert expected == ("--providers" in arguments)
    assert not expected or arguments[arguments.index("--providers") + 1] == "openai:chat:m"


def test_the_key_stands_in_no_output(engine: FakeEngine, runner: Runner) -> None:
    result = runner(engine, "good-chat")
    written = (runner.folder / "message").read_text() + (runner.folder / "reports" / "full.json").read_text()

    assert "key-of-the-engine" not in result.output + written + (runner.folder / "arguments.json").read_text()


def test_a_report_that_cannot_be_written_is_a_warning(engine: FakeEngine, runner: Runner) -> None:
    (runner.folder / "reports").write_text("a file where the folder should be")

    result = runner(engine, "good-chat")

    assert result.exit_code == 0
    assert "Warning: the report cannot be written" in result.output
    assert runner.message().report is None
