from __future__ import annotations

import json
import socket

import pytest

from plimsoll.hub.client import DEFAULT_ENDPOINT, HubClient, endpoint_from
from plimsoll.hub.config import MAX_CONFIG_BYTES
from plimsoll.hub.errors import HubProblem
from plimsoll.reconcile.sources import HubFailureKind as Kind
from plimsoll.sandbox.hubstandin import GOOD_TOKEN, UNENTITLED_TOKEN, Fault, HubStandIn
from plimsoll.sizing import catalogue
from plimsoll.sizing.facts import RepoFile

GATED = "meta-llama/Llama-3.1-8B-Instruct"
OPEN = "mistralai/Mistral-7B-Instruct-v0.3"
CONFIG = json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}).encode()


async def failure(
    client: HubClient, model: str, revision: str = "main", token: str | None = None
) -> HubProblem:
    with pytest.raises(HubProblem) as caught:
        await client.fetch(model, revision, token)
    return caught.value


@pytest.mark.parametrize("model", ["deepseek-ai/DeepSeek-V3", "facebook/opt-125m", OPEN])
async def test_any_model_costs_at_most_three_requests_however_many_shards(
    hub: HubStandIn, model: str
) -> None:
    facts = await HubClient(hub.url).fetch(model, "main")
    assert len(hub.requests) == 3
    assert facts.commit == hub.commit_of(model)


async def test_facts_are_those_of_the_repository(hub: HubStandIn) -> None:
    commit = hub.add_repo(
        "org/tiny",
        {
            "config.json": CONFIG,
            "model.safetensors": b"w" * 10,
            "tokenizer_config.json": b'{"chat_template": "x"}',
        },
        parameters_by_dtype={"BF16": 5},
    )
    facts = await HubClient(hub.url).fetch("org/tiny", "main")
    assert facts.commit == commit
    assert facts.requested_revision == "main"
    assert facts.config == json.loads(CONFIG)
    assert facts.files == (
        RepoFile(path="config.json", size_bytes=len(CONFIG)),
        RepoFile(path="model.safetensors", size_bytes=10),
        RepoFile(path="tokenizer_config.json", size_bytes=22),
    )
    assert facts.parameters_by_dtype == {"BF16": 5}
    assert facts.has_chat_template


@pytest.mark.parametrize("model", catalogue.model_ids())
async def test_the_hub_and_the_catalogue_tell_the_same_of_a_model(hub: HubStandIn, model: str) -> None:
    expected = catalogue.lookup(model)
    assert expected is not None
    actual = await HubClient(hub.url).fetch(model, "main", GOOD_TOKEN)
    assert actual.config == expected.config
    assert actual.parameters_by_dtype == expected.parameters_by_dtype
    assert actual.has_chat_template == expected.has_chat_template
    assert tuple(f for f in actual.files if f.path != "config.json") == expected.files


async def test_branches_tags_pull_requests_and_commits_resolve_to_their_commit(hub: HubStandIn) -> None:
    main = hub.add_repo("org/tiny", {"config.json": CONFIG})
    other = hub.add_repo("org/tiny", {"config.json": CONFIG, "x.txt": b"2"}, revision="refs/pr/1")
    client = HubClient(hub.url)
    revisions = ("main", main, "refs/pr/1", other)
    assert [(await client.fetch("org/tiny", r)).commit for r in revisions] == [main, main, other, other]


@pytest.mark.parametrize(
    ("model", "revision", "token", "kind", "says"),
    [
        pytest.param("no/such", "main", None, Kind.NOT_FOUND, "no model no/such", id="unknown"),
        pytest.param(
            "no/such", "main", GOOD_TOKEN, Kind.NOT_FOUND, "account may not see", id="unknown-with-token"
        ),
        pytest.param("org/private", "main", None, Kind.NOT_FOUND, "private and no token", id="private"),
        pytest.param(OPEN, "v9", None, Kind.REVISION_NOT_FOUND, "no revision 'v9'", id="revision"),
        pytest.param(GATED, "main", None, Kind.GATED, "no token was given", id="gated-without-token"),
        pytest.param(
            GATED, "main", UNENTITLED_TOKEN, Kind.GATED, "has no access", id="gated-without-licence"
        ),
        pytest.param(OPEN, "main", "hf_wrong", Kind.TOKEN_REFUSED, "does not know the token", id="bad-token"),
    ],
)
async def test_each_refusal_of_the_hub_has_its_own_kind(
    hub: HubStandIn, model: str, revision: str, token: str | None, kind: Kind, says: str
) -> None:
    hub.add_repo("org/private", {"config.json": CONFIG}, private=True)
    error = await failure(HubClient(hub.url), model, revision, token)
    assert (error.kind, error.failure.retryable) == (kind, False)
    assert says in str(error)


TROUBLES = {
    "seconds": (Fault(status=429, headers={"Retry-After": "17"}), Kind.RATE_LIMITED, 17),
    "ratelimit-header": (Fault(status=429, headers={"RateLimit": '"api";r=0;t=55'}), Kind.RATE_LIMITED, 55),
    "date": (
        Fault(status=429, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
        Kind.RATE_LIMITED,
        0,
    ),
    "nonsense": (Fault(status=429, headers={"Retry-After": "soon"}), Kind.RATE_LIMITED, None),
    "for-ever": (Fault(status=429, headers={"Retry-After": "9" * 40}), Kind.RATE_LIMITED, 3600),
    "unavailable": (Fault(status=503, headers={"Retry-After": "4"}), Kind.UNREACHABLE, 4),
    "server-error": (Fault(status=500), Kind.UNREACHABLE, None),
    "not-a-hub": (Fault(status=404), Kind.UNREACHABLE, None),
    "forbidden": (Fault(status=403), Kind.TOKEN_REFUSED, None),
}
NO_HUB = {
    "captive-portal": (Fault(status=200, body=b"<html>log in</html>"), Kind.UNREACHABLE, None),
    "no-commit": (Fault(status=200, body=b'{"id": "a/b"}'), Kind.UNREACHABLE, None),
    "no-object": (Fault(status=200, body=b"[]"), Kind.UNREACHABLE, None),
    "no-model": (Fault(status=200, body=b"{}"), Kind.UNREACHABLE, None),
    "odd-sizes": (
        Fault(
            status=200,
            body=b'{"id": "a/b", "sha": "' + b"a" * 40 + b'", "siblings": [{"rfilename": "x", "size": -1}]}',
        ),
        Kind.UNREACHABLE,
        None,
    ),
}


@pytest.mark.parametrize(
    ("at", "fault", "kind", "wait"),
    [
        pytest.param(at, *case, id=f"{name}-at-{where}")
        for at, where, cases in (
            ("/api/models/", "metadata", TROUBLES | NO_HUB),
            ("/resolve/", "config", TROUBLES),
        )
        for name, case in cases.items()
    ],
)
async def test_trouble_of_the_hub_says_whether_and_when_to_come_back(
    hub: HubStandIn, at: str, fault: Fault, kind: Kind, wait: float | None
) -> None:
    hub.faults.append(Fault(match=at, status=fault.status, headers=fault.headers, body=fault.body))
    error = await failure(HubClient(hub.url), OPEN)
    assert (error.kind, error.failure.retry_after_seconds) == (kind, wait)


async def test_a_hub_that_does_not_answer_in_time_is_unreachable(hub: HubStandIn) -> None:
    hub.faults.append(Fault(delay_seconds=5.0))
    error = await failure(HubClient(hub.url, timeout_seconds=0.2, deadline_seconds=0.5), OPEN)
    assert (error.kind, error.failure.retryable) == (Kind.UNREACHABLE, True)
    assert "did not answer in time" in str(error)


async def test_a_port_where_nobody_listens_is_unreachable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        error = await failure(HubClient(endpoint, timeout_seconds=1.0), OPEN)
    assert error.kind is Kind.UNREACHABLE
    assert endpoint in str(error)


@pytest.mark.parametrize(
    ("files", "kind", "says"),
    [
        pytest.param({"config.json": b"{"}, Kind.CONFIG_NOT_JSON, "line 1, column 2", id="broken"),
        pytest.param({"config.json": b"\xff{}"}, Kind.CONFIG_NOT_JSON, "is not JSON", id="not-utf-8"),
        pytest.param({"config.json": b"[" * 100_000}, Kind.CONFIG_NOT_JSON, "is not JSON", id="nested"),
        pytest.param(
            {"config.json": b'{"a": ' + b"9" * 5000 + b"}"}, Kind.CONFIG_NOT_JSON, "JSON", id="huge-number"
        ),
        pytest.param({"config.json": b"[1]"}, Kind.CONFIG_NOT_JSON, "holds a list", id="list"),
        pytest.param({"config.json": b"null"}, Kind.CONFIG_NOT_JSON, "holds null", id="null"),
        pytest.param({"config.json": b"{}"}, Kind.NOT_A_TRANSFORMER, "neither `architectures`", id="empty"),
        pytest.param({"README.md": b""}, Kind.NOT_A_TRANSFORMER, "no config.json", id="none"),
        pytest.param({"adapter_config.json": b"{}"}, Kind.NOT_A_TRANSFORMER, "LoRA", id="adapter"),
        pytest.param({"q4.gguf": b""}, Kind.NOT_A_TRANSFORMER, "GGUF", id="gguf"),
        pytest.param({"model_index.json": b"{}"}, Kind.NOT_A_TRANSFORMER, "diffusion", id="diffusion"),
        pytest.param(
            {"config.json": b" " * (MAX_CONFIG_BYTES + 1)},
            Kind.CONFIG_TOO_LARGE,
            "over the bound",
            id="too-large",
        ),
    ],
)
async def test_a_repository_that_is_no_transformer_says_what_it_is(
    hub: HubStandIn, files: dict[str, bytes], kind: Kind, says: str
) -> None:
    hub.add_repo("org/odd", files)
    error = await failure(HubClient(hub.url), "org/odd")
    assert error.kind is kind
    assert says in str(error)


async def test_a_config_larger_than_the_listing_said_is_not_read_to_its_end(hub: HubStandIn) -> None:
    hub.faults.append(Fault(match="/resolve/", status=200, body=b" " * (MAX_CONFIG_BYTES + 10)))
    assert (await failure(HubClient(hub.url), OPEN)).kind is Kind.CONFIG_TOO_LARGE


@pytest.mark.parametrize(
    ("model", "revision"),
    [
        ("a;rm -rf /", "main"),
        ("$(id)/x", "main"),
        ("a/b/c", "main"),
        ("a/b: c", "main"),
        ("../a", "main"),
        ("a/..", "main"),
        ("a\n/b", "main"),
        ("", "main"),
        ("a" * 97, "main"),
        ("org/name.git", "main"),
        (OPEN, "../x"),
        (OPEN, "/etc/passwd"),
        (OPEN, "a/../../b"),
        (OPEN, "a//b"),
        (OPEN, "x y"),
        (OPEN, ""),
        (OPEN, "a?b"),
    ],
)
async def test_what_can_be_no_name_is_refused_before_any_request(
    hub: HubStandIn, model: str, revision: str
) -> None:
    assert (await failure(HubClient(hub.url), model, revision)).kind is Kind.INVALID_REFERENCE
    assert hub.requests == []


@pytest.mark.parametrize("token", [GOOD_TOKEN, "hf_wrong_secret", UNENTITLED_TOKEN])
@pytest.mark.parametrize("model", [GATED, "no/such", OPEN])
async def test_no_message_holds_the_token(hub: HubStandIn, model: str, token: str) -> None:
    hub.faults.append(Fault(match="/resolve/", status=500, body=token.encode()))
    assert token not in repr((await failure(HubClient(hub.url), model, "main", token)).failure)


@pytest.mark.parametrize("token", ["", " ", "hf_a b", "hf_\u00e9", "hf_a\nX-Evil: 1", "hf_\x00"])
async def test_a_token_that_can_be_none_is_refused_before_any_request(hub: HubStandIn, token: str) -> None:
    error = await failure(HubClient(hub.url), OPEN, "main", token)
    assert error.kind is Kind.TOKEN_REFUSED
    assert hub.requests == []


async def test_the_line_break_that_echo_leaves_in_a_secret_does_no_harm(hub: HubStandIn) -> None:
    facts = await HubClient(hub.url).fetch(GATED, "main", f"{GOOD_TOKEN}\n")
    assert facts.commit == hub.commit_of(GATED)


async def test_no_token_of_this_machine_is_sent(hub: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)
    await HubClient(hub.url).fetch(OPEN, "main")
    assert [request.authorized for request in hub.requests] == [False, False, False]


async def test_a_token_is_sent_with_every_request_to_the_hub(hub: HubStandIn) -> None:
    await HubClient(hub.url).fetch(GATED, "main", GOOD_TOKEN)
    assert [request.authorized for request in hub.requests] == [True, True, True]


async def test_a_token_does_not_follow_a_redirect_to_another_host(hub: HubStandIn) -> None:
    async with HubStandIn() as elsewhere:
        hub.faults.append(
            Fault(match="/resolve/", status=302, headers={"Location": f"{elsewhere.url}/steal"})
        )
        await failure(HubClient(hub.url), GATED, "main", GOOD_TOKEN)
        assert [request.authorized for request in elsewhere.requests] == [False]


@pytest.mark.parametrize(
    ("environ", "endpoint"),
    [
        ({}, DEFAULT_ENDPOINT),
        ({"HF_ENDPOINT": ""}, DEFAULT_ENDPOINT),
        ({"HF_ENDPOINT": "http://hub.local/"}, "http://hub.local"),
    ],
)
def test_the_endpoint_is_the_one_that_the_environment_names(environ: dict[str, str], endpoint: str) -> None:
    assert endpoint_from(environ) == endpoint
