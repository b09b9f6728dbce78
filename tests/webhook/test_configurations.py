"""The webhook configurations: who is asked about what, and what happens when nobody answers."""

from __future__ import annotations

import base64

import pytest

from plimsoll.webhook.configurations import ServiceRef, Url, webhook_configurations


@pytest.fixture
def webhooks():
    service = ServiceRef(name="plimsoll-webhook", namespace="plimsoll-system")
    return {one["kind"]: one["webhooks"][0] for one in webhook_configurations(service, b"PEM")}


def test_a_service_is_asked_under_the_handlers_id(webhooks):
    assert {
        "service": {
            "name": "plimsoll-webhook",
            "namespace": "plimsoll-system",
            "path": "/fill-pod-resources",
            "port": 443,
        },
        "caBundle": base64.b64encode(b"PEM").decode(),
    } == webhooks["MutatingWebhookConfiguration"]["clientConfig"]


def test_an_address_is_asked_under_the_handlers_id():
    found = webhook_configurations(Url(base="https://127.0.0.1:9443/"), None)[1]["webhooks"][0]
    assert found["clientConfig"] == {"url": "https://127.0.0.1:9443/validate-modeldeployments"}


def test_a_webhook_that_does_not_answer_stops_nobody(webhooks):
    assert {"Ignore"} == {one["failurePolicy"] for one in webhooks.values()}


def test_the_webhooks_own_pods_and_the_systems_do_not_wait_for_it(webhooks):
    expression = webhooks["MutatingWebhookConfiguration"]["namespaceSelector"]["matchExpressions"][0]
    assert (expression["operator"], expression["values"]) == ("NotIn", ["kube-system", "plimsoll-system"])


def test_only_pods_with_our_label_are_sent(webhooks):
    webhook = webhooks["MutatingWebhookConfiguration"]
    assert webhook["objectSelector"] == {
        "matchExpressions": [{"key": "plimsoll.dev/component", "operator": "Exists"}]
    }
    assert webhook["rules"][0]["operations"] == ["CREATE"]
    assert (webhook["reinvocationPolicy"], webhook["timeoutSeconds"]) == ("IfNeeded", 5)


def test_one_namespace_alone_can_be_served():
    found = webhook_configurations(Url(base="https://x"), None, namespace="team-a")[0]["webhooks"][0]
    expression = found["namespaceSelector"]["matchExpressions"][0]
    assert (expression["operator"], expression["values"]) == ("In", ["team-a"])
