"""The Hugging Face token of a namespace, read under two rules.

Whoever may create a ModelDeployment makes the operator use Secrets of its namespace. So only a Secret with the
label `plimsoll.dev/hf-token: "true"` is ever read: its metadata is asked for first, alone, and the data only
after that. And a token goes to one Hub only: where the annotation `plimsoll.dev/hf-endpoint` names another
one than the operator's, it is refused.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from plimsoll.api.conditions import Reason
from plimsoll.cluster.errors import ClusterError, NotFoundError
from plimsoll.cluster.kinds import SECRET
from plimsoll.manifests import labels

if TYPE_CHECKING:
    from plimsoll.api.spec import SecretKeyRef
    from plimsoll.cluster.client import ClusterClient, Object

HF_ENDPOINT_ANNOTATION = "plimsoll.dev/hf-endpoint"


class SecretProblem(ClusterError):  # noqa: N818 - a state of the user's Secret, not a failure of ours
    """A Secret that cannot be used as it is; `reason` is that of the condition `Sized`."""

    def __init__(self, reason: Reason, message: str) -> None:
        """Carry the reason and a sentence with the next step."""
        self.reason = reason
        super().__init__(message)


async def read_token(client: ClusterClient, namespace: str, ref: SecretKeyRef, endpoint: str) -> str:
    """The token for the Hub at `endpoint`.

    Raises:
        SecretProblem: there is no such Secret, or it may not or cannot be used.
        ClusterError: the API server did not answer.
    """
    where = f"Secret {namespace}/{ref.name}"
    try:
        _check(await client.get_metadata(SECRET, ref.name, namespace), where, endpoint)
        secret = await client.get(SECRET, ref.name, namespace)
    except NotFoundError:
        raise SecretProblem(
            Reason.SECRET_NOT_FOUND,
            f'{where} does not exist; create it with the label {labels.HF_TOKEN}: "true".',
        ) from None
    # Between the two requests somebody may have taken the label away.
    _check(secret, where, endpoint)
    return _value(secret, ref.key, where)


def _check(secret: Object, where: str, endpoint: str) -> None:
    metadata = secret["metadata"]
    if (metadata.get("labels") or {}).get(labels.HF_TOKEN) != "true":
        raise SecretProblem(
            Reason.SECRET_NOT_USABLE,
            f'{where} has no label {labels.HF_TOKEN}: "true", so it is not read; label it if the operator may use it.',
        )
    named = (metadata.get("annotations") or {}).get(HF_ENDPOINT_ANNOTATION)
    if named is not None and named.rstrip("/") != endpoint.rstrip("/"):
        raise SecretProblem(
            Reason.SECRET_NOT_USABLE,
            f"{where} is for the Hub at {named}, but the operator asks {endpoint}; use a token for that one.",
        )


def _value(secret: Object, key: str, where: str) -> str:
    data = secret.get("data") or {}
    if key not in data:
        raise SecretProblem(
            Reason.SECRET_NOT_USABLE,
            f"{where} has no key {key}; add it, or name another in tokenSecretRef.key.",
        )
    try:
        token = base64.b64decode(data[key], validate=True).decode("ascii").strip()
    except (binascii.Error, UnicodeDecodeError):
        token = ""
    if not token or not token.isprintable() or " " in token:
        raise SecretProblem(
            Reason.SECRET_NOT_USABLE,
            f"key {key} of {where} holds no token; write one line, as the Hub shows it.",
        )
    return token
