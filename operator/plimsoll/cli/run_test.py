"""`plimsoll run-test`: what the test Job runs."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click

from plimsoll.cli import promptfoo
from plimsoll.cli.probe import Engine, check_name, prove_context
from plimsoll.cli.promptfoo import Outcome, PromptfooError, PromptfooRun, Verdict
from plimsoll.manifests.suite import Api, provider_id
from plimsoll.reconcile.reports import TestReport, write

_EPILOG = """\b
The engine's key is read from OPENAI_API_KEY.

\b
Exit status: 0 passed, 1 an error that a retry may mend, 2 wrong usage,
100 the engine failed the test.
"""
_SHORTEST_CONTEXT: Final = 2  # one token of prompt and one of answer


@click.command(name="run-test", epilog=_EPILOG, short_help="Test a running engine (what the test Job runs).")
@click.option(
    "--suite",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="promptfoo configuration.",
)
@click.option(
    "--base-url", required=True, metavar="URL", help="The engine's OpenAI-compatible API, with /v1."
)
@click.option("--served-model-name", required=True, metavar="NAME", help="Name to ask for the model under.")
@click.option(
    "--api",
    type=click.Choice(["chat", "completions"]),
    default="chat",
    show_default=True,
    help="For a suite that names no provider.",
)
@click.option(
    "--max-model-len",
    required=True,
    type=click.IntRange(min=_SHORTEST_CONTEXT),
    metavar="TOKENS",
    help="Length to prove: one request of exactly so many tokens.",
)
@click.option(
    "--report", type=click.Path(dir_okay=False, path_type=Path), help="File for the full report, as JSON."
)
@click.option(
    "--message",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File for the short report, such as /dev/termination-log.",
)
@click.option(
    "--promptfoo", "command", default="promptfoo", show_default=True, help="promptfoo's executable."
)
@click.option(
    "--patience-seconds",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="How long to wait for the engine's first answer.",
)
@click.option(
    "--timeout-seconds",
    type=click.FloatRange(min=1),
    default=3600.0,
    show_default=True,
    help="For the suite, and again for the longest request.",
)
@click.pass_context
def run_test(
    ctx: click.Context,
    *,
    suite: Path,
    base_url: str,
    served_model_name: str,
    api: Api,
    max_model_len: int,
    report: Path | None,
    message: Path | None,
    command: str,
    patience_seconds: float,
    timeout_seconds: float,
) -> None:
    """Run a promptfoo suite against an engine, then prove the length of its context."""
    key = os.environ.get("OPENAI_API_KEY") or None
    engine = Engine(base_url=base_url.rstrip("/"), served_model_name=served_model_name, api_key=key)
    with tempfile.TemporaryDirectory(prefix="plimsoll-test-") as folder:
        order = PromptfooRun(
            command=command,
            suite=suite,
            provider=provider_id(api, served_model_name),
            base_url=engine.base_url,
            folder=Path(folder),
            timeout_seconds=timeout_seconds,
        )
        outcome, results = examine(engine, order, max_model_len, patience_seconds=patience_seconds)
    written = _write_full(report, outcome, results)
    short = replace(outcome.report, report=written)
    _write_message(message, short)
    click.echo(_summary(outcome))
    ctx.exit(int(outcome.verdict))


def examine(
    engine: Engine, order: PromptfooRun, max_model_len: int, *, patience_seconds: float
) -> tuple[Outcome, dict[str, Any] | None]:
    """The three parts in order (name, suite, longest request), each only if the one before it passed.

    Returns:
        What was found, and promptfoo's own results where it came so far.
    """
    named = check_name(engine, patience_seconds=patience_seconds)
    if named is not None:
        return named, None
    try:
        results = promptfoo.run(order, os.environ)
    except PromptfooError as error:
        report = TestReport(passed=0, failed=0, errors=1, total=1, error=str(error))
        return Outcome(verdict=Verdict.ERROR, report=report), None
    judged = promptfoo.decide(results)
    if judged.verdict is not Verdict.PASSED:
        return judged, results
    proof = prove_context(engine, max_model_len, timeout_seconds=order.timeout_seconds)
    return Outcome(verdict=proof.verdict, report=_joined(judged.report, proof.report)), results


def _joined(suite: TestReport, proof: TestReport) -> TestReport:
    return TestReport(
        passed=suite.passed + proof.passed,
        failed=suite.failed + proof.failed,
        errors=suite.errors + proof.errors,
        total=suite.total + proof.total,
        failures=(*suite.failures, *proof.failures),
        proven_context=proof.proven_context,
        error=proof.error,
    )


def _write_full(path: Path | None, outcome: Outcome, results: dict[str, Any] | None) -> str | None:
    """Write promptfoo's results with ours beside them; the path on the volume, or None where that failed."""
    if path is None:
        return None
    full = {"plimsoll": json.loads(write(outcome.report)), "promptfoo": results}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(full, indent=1), encoding="utf-8")
    except OSError as error:
        click.echo(f"Warning: the report cannot be written to {path} ({error.strerror}).", err=True)
        return None
    # The volume's folder is mounted under its own name, so the path on the volume is the path without the root.
    return str(path).lstrip("/")


def _write_message(path: Path | None, report: TestReport) -> None:
    """Leave the short report; where that fails the exit status still tells the outcome."""
    if path is None:
        return
    try:
        path.write_text(write(report), encoding="ascii")
    except OSError as error:
        click.echo(f"Warning: the message cannot be written to {path} ({error.strerror}).", err=True)


def _summary(outcome: Outcome) -> str:
    report = outcome.report
    counts = f"{report.passed} of {report.total} assertions held"
    if outcome.verdict is Verdict.PASSED:
        return f"Passed: {counts}, and a request of {report.proven_context} tokens was served."
    shown = "; ".join(f"{failure.assertion}: {failure.test}" for failure in report.failures)
    return f"{outcome.verdict.name.capitalize()}: {counts}. {report.error or shown}"
