"""The admission server: large bodies, bad ones, and certificates that change under it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from plimsoll.sandbox.processes import free_ports
from plimsoll.webhook.server import AdmissionServer, CertificateError, Listen


def write_certificate(folder, name):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    for file, data in (("tls.crt", certificate.public_bytes(pem)), ("tls.key", private)):
        (folder / f"{file}.new").write_bytes(data)
        (folder / f"{file}.new").replace(folder / file)


@contextlib.asynccontextmanager
async def serving(folder, handle, **listen):
    port = free_ports(1)[0]
    server = AdmissionServer(Listen(host="127.0.0.1", port=port, cert_dir=folder, **listen))
    up = asyncio.Event()

    async def run():
        async for _ in server(handle):
            up.set()

    task = asyncio.create_task(run())
    await asyncio.wait_for(up.wait(), 5)
    try:
        yield server, port
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def allow(review, *, webhook=None, headers=None, sslpeer=None):
    return {"response": {"allowed": True, "webhook": webhook, "size": len(json.dumps(review))}}


async def post(port, data, path="/some-handler"):
    data = io.BytesIO(data.encode() if isinstance(data, str) else data)
    connector = aiohttp.TCPConnector(ssl=False)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post(f"https://127.0.0.1:{port}{path}", data=data) as response,
    ):
        return response.status, await response.text()


def name_of(port):
    pem = ssl.get_server_certificate(("127.0.0.1", port))
    return (
        x509.load_pem_x509_certificate(pem.encode())
        .subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0]
        .value
    )


async def test_a_review_of_several_mebibytes_is_answered(tmp_path):
    write_certificate(tmp_path, "first")
    review = json.dumps({"request": {"uid": "x", "object": "x" * 6_000_000}})
    async with serving(tmp_path, allow) as (_, port):
        status, text = await post(port, review)
    assert (status, json.loads(text)["response"]["webhook"]) == (200, "some-handler")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", 400),
        (b"no json", 400),
        (b"[]", 400),
        (b"{}", 400),
        (b'{"request": 5}', 400),
        (b"\xff\xfe", 400),
        (b'{"request": "' + b"x" * (9 * 2**20) + b'"}', 413),
    ],
    ids=["empty", "no JSON", "a list", "no request", "a number", "no text", "too large"],
)
async def test_what_is_no_review_is_refused_and_the_server_lives_on(tmp_path, data, status):
    write_certificate(tmp_path, "first")
    async with serving(tmp_path, allow) as (_, port):
        assert status == (await post(port, data))[0]
        assert (await post(port, b'{"request": {}}'))[0] == 200


async def test_a_new_certificate_is_used_without_a_restart(tmp_path):
    write_certificate(tmp_path, "first")
    async with serving(tmp_path, allow, check_seconds=0.01) as (_, port):
        assert await asyncio.to_thread(name_of, port) == "first"
        write_certificate(tmp_path, "second")
        async with asyncio.timeout(5):
            while await asyncio.to_thread(name_of, port) != "second":
                await asyncio.sleep(0.01)
        assert (await post(port, b'{"request": {}}'))[0] == 200


async def test_a_certificate_that_does_not_fit_its_key_changes_nothing_until_it_does(tmp_path):
    write_certificate(tmp_path, "first")
    async with serving(tmp_path, allow) as (server, port):
        key = (tmp_path / "tls.key").read_bytes()
        write_certificate(tmp_path, "second")
        fitting = (tmp_path / "tls.key").read_bytes()
        (tmp_path / "tls.key").write_bytes(key)
        assert not server.reload_if_changed()
        assert await asyncio.to_thread(name_of, port) == "first"
        (tmp_path / "tls.key").write_bytes(fitting)
        assert server.reload_if_changed()
        assert await asyncio.to_thread(name_of, port) == "second"
        assert not server.reload_if_changed()


async def test_a_certificate_that_vanishes_is_kept_in_use(tmp_path):
    write_certificate(tmp_path, "first")
    async with serving(tmp_path, allow) as (server, port):
        (tmp_path / "tls.crt").unlink()
        assert not server.reload_if_changed()
        assert await asyncio.to_thread(name_of, port) == "first"


@pytest.mark.parametrize("content", [None, b"", b"no certificate"], ids=["missing", "empty", "nonsense"])
def test_a_certificate_that_cannot_be_used_ends_the_start_with_a_sentence(tmp_path, content):
    if content is not None:
        (tmp_path / "tls.crt").write_bytes(content)
        (tmp_path / "tls.key").write_bytes(content)
    with pytest.raises(CertificateError, match="put a certificate and its key there"):
        AdmissionServer(Listen(host="127.0.0.1", port=1, cert_dir=tmp_path))
