"""The HTTPS server that kopf's admission function is called from.

kopf's own takes bodies up to 1 MiB only (the API server sends up to 3 MiB) and drops its listener to change a
certificate. This one takes 8 MiB, and loads a new certificate into the context that is in use: connections
stay, new ones get the new certificate.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import kopf
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_logger = logging.getLogger(__name__)

MAX_BODY_BYTES: Final = 8 * 2**20
CERTIFICATE_CHECK_SECONDS: Final = 10.0
CERTIFICATE_FILE: Final = "tls.crt"
KEY_FILE: Final = "tls.key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """Where to listen, and the folder with tls.crt and tls.key as a Secret of type kubernetes.io/tls mounts it."""

    host: str
    port: int
    cert_dir: Path
    check_seconds: float = CERTIFICATE_CHECK_SECONDS

    @property
    def certificate(self) -> Path:
        """The certificate with its chain."""
        return self.cert_dir / CERTIFICATE_FILE

    @property
    def key(self) -> Path:
        """The private key."""
        return self.cert_dir / KEY_FILE


class CertificateError(Exception):
    """The certificate or its key cannot be used; the text is one sentence."""


class AdmissionServer:
    """Serves admission requests; `settings.admission.server` of kopf."""

    def __init__(self, listen: Listen) -> None:
        """Read the certificate once, so that a wrong one ends the process at its start.

        Raises:
            CertificateError: it cannot be used.
        """
        self._listen = listen
        self._seen = _stamps(listen)
        self._context = _context(listen)
        self.serving = False

    async def __call__(self, handle: kopf.WebhookFn) -> AsyncIterator[kopf.WebhookClientConfig]:
        """Listen until cancelled, as kopf asks of an admission server."""

        async def answer(request: web.Request) -> web.Response:
            return await _answer(handle, request)

        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_post("/{handler}", answer)
        runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=5.0)
        await runner.setup()
        try:
            listen = self._listen
            await web.TCPSite(runner, listen.host, listen.port, ssl_context=self._context).start()
            self.serving = True
            _logger.info("serving admission on %s port %d", listen.host, listen.port)
            yield kopf.WebhookClientConfig(url=f"https://{listen.host}:{listen.port}")
            await self._keep_certificate_fresh()
        finally:
            self.serving = False
            await runner.cleanup()

    def problem(self) -> str | None:
        """Why the process is not well."""
        return None if self.serving else "admission is not served"

    async def _keep_certificate_fresh(self) -> None:
        while True:
            await asyncio.sleep(self._listen.check_seconds)
            self.reload_if_changed()

    def reload_if_changed(self) -> bool:
        """Load the certificate into the live context if its files changed; a pair that does not fit is left alone."""
        stamps = _stamps(self._listen)
        if stamps == self._seen:
            return False
        try:
            # Tried apart first: a certificate loaded without its key would break the listener.
            _context(self._listen)
            _load(self._context, self._listen)
        except CertificateError as error:
            _logger.warning("%s; the certificate in use stays", error)
            return False
        self._seen = stamps
        _logger.info("the certificate was renewed")
        return True


async def _answer(handle: kopf.WebhookFn, request: web.Request) -> web.Response:
    try:
        review: Any = json.loads(await request.text())
        if not isinstance(review, dict) or not isinstance(review.get("request"), dict):
            raise web.HTTPBadRequest(text="this is no AdmissionReview with a request")
        response = await handle(
            review,  # type: ignore[arg-type]
            webhook=request.match_info["handler"],
            headers=dict(request.headers),
        )
        return web.json_response(response)
    except (ValueError, KeyError) as error:
        raise web.HTTPBadRequest(text=f"this is no AdmissionReview: {error}") from error


def _context(listen: Listen) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, listen)
    return context


def _load(context: ssl.SSLContext, listen: Listen) -> None:
    try:
        context.load_cert_chain(listen.certificate, listen.key)
    except (OSError, ssl.SSLError) as error:
        raise CertificateError(
            f"--cert-dir {listen.cert_dir}: {CERTIFICATE_FILE} and {KEY_FILE} cannot be used "
            f"({error.strerror or error}); put a certificate and its key there"
        ) from error


def _stamps(listen: Listen) -> tuple[tuple[int, int, int], ...]:
    """What changes when a file is replaced: a Secret's files are links that are switched as a whole."""
    found = []
    for path in (listen.certificate, listen.key):
        try:
            stat = path.stat()
        except OSError:
            found.append((0, 0, 0))
        else:
            found.append((stat.st_mtime_ns, stat.st_ino, stat.st_size))
    return tuple(found)
