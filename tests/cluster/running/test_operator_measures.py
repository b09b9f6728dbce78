"""The running engine is read once, its numbers reach status, metrics and events, and nothing waits for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from plimsoll.manifests.context import SERVED_PORT

# Engines serve on one port: an address of its own on the loopback device keeps it free for others.
ADDRESS = "127.0.8.1"
RECORDED = (Path(__file__).parents[2] / "controller" / "data" / "vllm-0.32.0.metrics").read_bytes()


class Engine(BaseHTTPRequestHandler):
    """Answers as the recorded vLLM 0.32.0 did."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        body = {"/metrics": RECORDED, "/version": b'{"version":"0.32.0"}'}.get(self.path, b"")
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: a test's output is its own."""


@pytest.fixture
def engine() -> Iterator[list[str]]:
    asked: list[str] = []
    handler = type("Handler", (Engine,), {"asked": asked})
    server = ThreadingHTTPServer((ADDRESS, SERVED_PORT), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield asked
    server.shutdown()
    server.server_close()
    thread.join()


def server_pod(world) -> str:
    (pod,) = world.kubectl.items("pods", "-n", world.namespace, "-l", "plimsoll.dev/component=server")
    return pod["metadata"]["name"]


def test_a_ready_engine_is_measured_once_and_its_error_told_without_failing(world, engine):
    world.apply(world.manifest())
    before = world.wait_ready()["status"]
    assert "measured" not in before
    where = f'{{"status":{{"podIP":"{ADDRESS}","podIPs":[{{"ip":"{ADDRESS}"}}]}}}}'
    pod = server_pod(world)
    world.kubectl(
        "patch", "pod", pod, "-n", world.namespace, "--subresource=status", "--type=merge", "-p", where
    )
    world.wait("the engine to be measured", lambda: "measured" in world.read()["status"])

    status = world.read()["status"]
    expected = status["plan"]["expectedKvCacheTokens"]
    percent = f"{100 * (expected - 210_598) / 210_598:+.2f}"
    assert status["measured"] == {
        "revision": status["revision"]["hash"],
        "version": "0.32.0",
        "kvCacheTokens": 210_598,
        "blocks": 2288,
        "blockSize": 128,
        "errorPercent": percent,
    }
    assert world.conditions()["Ready"] == ("True", "Serving")
    assert f"holds 210598 tokens and {expected} were expected (error {percent} %)" in world.message("Sized")
    world.wait(
        "the event", lambda: "PlanDiffers" in world.kubectl("get", "events", "-n", world.namespace).stdout
    )
    _, metrics = world.operator.fetch(world.operator.metrics_port, "/metrics")
    gauge = (
        f'plimsoll_plan_error_percent{{name="m",namespace="{world.namespace}"}} {percent.removeprefix("+")}'
    )
    assert gauge in metrics.splitlines()

    world.kubectl("annotate", "modeldeployments.plimsoll.dev", "m", "-n", world.namespace, "look=again")
    world.settle()
    assert engine == ["/metrics", "/version"]
    world.kubectl("delete", "modeldeployments.plimsoll.dev", "m", "-n", world.namespace)

    def gone():
        _, text = world.operator.fetch(world.operator.metrics_port, "/metrics")
        return gauge not in text

    world.wait("the number of a deployment that is gone to go", gone)
