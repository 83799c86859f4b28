"""A real SMTP server that keeps what it is given: plain, STARTTLS or TLS, with or without a login. It can refuse."""

from __future__ import annotations

import ssl
import subprocess
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


@dataclass
class Server:
    """`letters` in order of arrival; `refusal` is said to every letter while it is set. `logins` that were accepted."""

    port: int = 0
    letters: list[EmailMessage] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)
    refusal: str = ""
    arrived: threading.Event = field(default_factory=threading.Event)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd calls it so
        if self.refusal:
            return self.refusal
        content = envelope.content
        found: Any = message_from_bytes(content if isinstance(content, bytes) else (content or "").encode(), policy=default)
        self.letters.append(found)
        self.recipients.append(envelope.rcpt_tos)
        self.encrypted.append(session.ssl is not None or server.transport.get_extra_info("ssl_object") is not None)
        self.arrived.set()
        return "250 taken"


@contextmanager
def start(
    *, tls: str = "", certificate: tuple[Path, Path] | None = None, login: tuple[str, str] | None = None
) -> Iterator[Server]:
    """A server on a free loopback port. `tls`: "", "starttls" or "ssl", with (certificate, key) files."""
    kept = Server()

    def known(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, given: Any) -> AuthResult:
        ok = isinstance(given, LoginPassword) and (given.login.decode(), given.password.decode()) == login
        if ok:
            kept.logins.append(given.login.decode())
        return AuthResult(success=ok)

    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)

    class Here(Controller):
        def factory(self) -> SMTP:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a login without STARTTLS: TLS from the first byte is unknown to it
                return SMTP(
                    self.handler,
                    hostname="sink.example",
                    loop=self.loop,
                    tls_context=context if tls == "starttls" else None,
                    require_starttls=tls == "starttls",
                    auth_required=login is not None,
                    auth_require_tls=tls == "starttls",
                    authenticator=known if login is not None else None,
                )

        def _trigger_server(self) -> None:
            """The listening socket knows its port."""
            assert self.server is not None
            kept.port = self.port = self.server.sockets[0].getsockname()[1]
            super()._trigger_server()

    controller = Here(kept, hostname="127.0.0.1", port=0, ssl_context=context if tls == "ssl" else None)
    controller.start()
    try:
        yield kept
    finally:
        controller.stop()


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that nobody signed but itself, and its key."""
    files = folder / "smtp.crt", folder / "smtp.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-out", str(files[0]), "-keyout", str(files[1])),
        ],
        check=True,
        capture_output=True,
    )
    return files
