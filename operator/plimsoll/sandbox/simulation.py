"""kwok, and the stages that make its pods behave: downloads and tests end with a report, servers become ready.

The stages stand in stages/*.yaml. Their termination messages come from the real report writer, so that what the
operator reads in the sandbox is what it reads from its own runners.
"""

from __future__ import annotations

import re
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from plimsoll.manifests import labels
from plimsoll.reconcile.reports import DownloadReport, FailedAssertion, Report, TestReport, write
from plimsoll.sandbox.nodes import SIMULATED
from plimsoll.sandbox.processes import Child

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

BEHAVIOUR: Final = "sandbox.plimsoll.dev/behaviour"
BEHAVIOURS: Final = (
    "slow-download",
    "failing-download",
    "failing-test",
    "crashing-server",
    "out-of-memory",
    "context-too-long",
    "throttled-server",
    "image-missing",
)

_LEASE_SECONDS: Final = 40
_MARK: Final = re.compile(r"@report:([a-z-]+)@")

# What only the pod's annotations know: a value that the writer takes, the annotation that replaces it, and what
# stands there without the annotation.
_BYTES: Final = 4611686018427380001
_CONTEXT: Final = 4611686018427380002
_COMMIT: Final = "0123456789abcdef0123456789abcdef01234567"
_FROM_ANNOTATIONS: Final = (
    (str(_BYTES), labels.MODEL_BYTES, "0"),
    (str(_CONTEXT), labels.MAX_MODEL_LEN, "0"),
    (_COMMIT, labels.REVISION_COMMIT, ""),
)

REPORTS: Final[Mapping[str, Report]] = MappingProxyType(
    {
        "download": DownloadReport(bytes=_BYTES, files=1, commit=_COMMIT),
        "failing-download": DownloadReport(
            bytes=0,
            files=0,
            commit=_COMMIT,
            error="The simulated download failed; remove the annotation sandbox.plimsoll.dev/behaviour.",
        ),
        "test": TestReport(passed=3, failed=0, errors=0, total=3, proven_context=_CONTEXT),
        "failing-test": TestReport(
            passed=2,
            failed=1,
            errors=0,
            total=3,
            failures=(FailedAssertion(assertion="not-empty", test="a sentence to finish"),),
        ),
    }
)


def stages() -> str:
    """Every stage as YAML, with the termination messages filled in."""
    folder = resources.files("plimsoll.sandbox").joinpath("stages")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    text = "---\n".join(folder.joinpath(name).read_text("utf-8") for name in names)
    return _MARK.sub(lambda mark: message_expression(REPORTS[mark[1]]), text)


def message_expression(report: Report) -> str:
    """A Go template expression for a report's termination message, with what the pod's annotations know."""
    expression = f"`{write(report)}`"
    for value, annotation, default in _FROM_ANNOTATIONS:
        expression += f' | replace "{value}" (index $annotations "{annotation}" | default "{default}")'
    return f"({expression})"


def kwok(binary: Path, kubeconfig: Path, folder: Path) -> Child:
    """The process that simulates the nodes of load_nodes and their pods; not started yet."""
    config = folder / "stages.yaml"
    config.write_text(stages())
    argv: list[str | Path] = [
        binary,
        f"--kubeconfig={kubeconfig}",
        f"--config={config}",
        f"--manage-nodes-with-annotation-selector={SIMULATED}=fake",  # never all: it takes real nodes' leases too
        f"--node-lease-duration-seconds={_LEASE_SECONDS}",
        "--node-ip=127.0.0.1",
    ]
    return Child("kwok", argv, log=folder / "kwok.log")
