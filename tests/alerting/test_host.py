"""What a machine says of itself: certificates as OpenSSL writes them, disks that are there."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest

from wafermonitor.alerting.host import ends_ns, look

SECOND = 1_000_000_000


def item(tag: int, content: bytes) -> bytes:
    """One item of DER; lengths above 127 take the long form."""
    size = len(content)
    length = bytes([size]) if size < 128 else bytes([0x82]) + size.to_bytes(2)
    return bytes([tag]) + length + content


def certificate(not_after: bytes, tag: int = 0x17, *, versioned: bool = True) -> str:
    """A certificate with nothing in it but what is looked for, and a subject that makes it long."""
    version = item(0xA0, item(0x02, b"\x02")) if versioned else b""
    validity = item(0x30, item(0x17, b"200101000000Z") + item(tag, not_after))
    fields = version + item(0x02, b"\x01") + item(0x30, b"") + item(0x30, b"") + validity + item(0x30, b"x" * 300)
    return ssl.DER_cert_to_PEM_cert(item(0x30, item(0x30, fields)))


@pytest.mark.parametrize(
    ("pem", "ends"),
    [
        (certificate(b"270131235959Z"), datetime(2027, 1, 31, 23, 59, 59, tzinfo=UTC)),
        (certificate(b"20530101000000Z", 0x18), datetime(2053, 1, 1, tzinfo=UTC)),
        (certificate(b"270131235959Z", versioned=False), datetime(2027, 1, 31, 23, 59, 59, tzinfo=UTC)),
    ],
    ids=["a short year", "a long year", "the first version"],
)
def test_the_end_of_a_certificate_is_read(tmp_path: Path, pem, ends):
    path = tmp_path / "server.pem"
    path.write_text("Subject: words before it\n" + pem + certificate(b"991231000000Z"))
    assert ends_ns(path) == round(ends.timestamp()) * SECOND


@pytest.mark.parametrize(
    "text",
    ["", "-----BEGIN CERTIFICATE-----\n", ssl.DER_cert_to_PEM_cert(b"\x30\x03\x02\x01\x01"), certificate(b"soon")],
)
def test_what_is_no_certificate_has_no_end(tmp_path: Path, text):
    path = tmp_path / "server.pem"
    path.write_text(text)
    assert ends_ns(path) is None


def test_what_is_there_is_told(tmp_path: Path):
    path = tmp_path / "server.pem"
    path.write_text(certificate(b"270131235959Z"))
    found = look([tmp_path, tmp_path / "nowhere"], [path, tmp_path / "none.pem"])
    assert [(disk, 0 <= free <= 1) for disk, free in found.disks] == [(str(tmp_path), True)]
    assert [name for name, _ in found.certificates] == [str(path)]


def test_what_cannot_be_read_is_named(tmp_path: Path):
    gone, empty = tmp_path / "nowhere", tmp_path / "none.pem"
    assert look([tmp_path, gone], [empty]).unread == (
        (str(gone), "its disk cannot be looked at: No such file or directory"),
        (str(empty), "no certificate can be read from it (PEM is expected)"),
    )
