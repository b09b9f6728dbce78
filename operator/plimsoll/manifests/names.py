"""The names of all children: deterministic DNS labels of at most 63 characters.

A ModelDeployment's name may have 253 characters, dots, or a leading digit. A name that is no DNS label as it
stands, or that leaves no room for what is appended, is shortened and gets a tail of its own hash, so that two
names never meet in one child.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

MAX_LENGTH: Final = 63
_TAIL_LENGTH: Final = 8
# RFC 1035, as Services want it: it begins with a letter.
_DNS_LABEL: Final = re.compile(r"^[a-z]([-a-z0-9]*[a-z0-9])?$")


def public_service_name(name: str) -> str:
    """The Service that clients use."""
    return _shortened(name, MAX_LENGTH)


def label_value(name: str) -> str:
    """The ModelDeployment's name as a label value; the same text as the public Service's name."""
    return _shortened(name, MAX_LENGTH)


def server_name(name: str, revision: str) -> str:
    """Deployment and private Service of one revision."""
    return _suffixed(name, f"-{revision}")


def volume_claim_name(name: str) -> str:
    """The claim of the model volume."""
    return _suffixed(name, "-model")


def download_job_name(name: str, download: str) -> str:
    """The Job that downloads; `download` is the hash of what made it."""
    return _suffixed(name, f"-download-{download}")


def suite_config_map_name(name: str, suite: str) -> str:
    """The ConfigMap of one promptfoo suite."""
    return _suffixed(name, f"-suite-{suite}")


def test_job_name(name: str, test: str) -> str:
    """The Job that tests; `test` is the hash of revision and suite."""
    return _suffixed(name, f"-test-{test}")


test_job_name.__test__ = False  # type: ignore[attr-defined]  # not a pytest function


def claim_label_value(claim: str) -> str:
    """A claim's name, which may be the user's own, as a label value."""
    return _shortened(claim, MAX_LENGTH)


def model_folder(model_id: str, commit: str) -> str:
    """Where one commit lies on the volume, relative to its root."""
    return f"{model_id.replace('/', '--')}/{commit}"


def _suffixed(name: str, suffix: str) -> str:
    return _shortened(name, MAX_LENGTH - len(suffix)) + suffix


def _shortened(name: str, room: int) -> str:
    """The name itself if it is a DNS label that fits, else its beginning with a hash of the whole."""
    if len(name) <= room and _DNS_LABEL.match(name):
        return name
    tail = hashlib.sha256(name.encode()).hexdigest()[:_TAIL_LENGTH]
    head = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not head or not head[0].isalpha():
        head = f"m-{head}"
    head = head[: room - _TAIL_LENGTH - 1].rstrip("-")
    return f"{head}-{tail}"
