"""Where a channel sends, without its secrets in any file of rules: `${env:NAME}` and `${file:/path}`, read when it is sent.

In: a channel's `url` as it is written. Out: the real one; what must never be shown of it. Called by: reading, sending.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from wafermonitor.alerting.errors import AlertingRejected
from wafermonitor.alerting.notify.routes import Engine
from wafermonitor.storage.writers import loading

MASK = "***"
_REFERENCE = re.compile(r"\$\{(env|file):([^}]+)\}")
_OPEN = ("http", "https", "mailto", "mailtos", "json", "jsons")
"""Schemes of addresses that may be written out, as long as no user stands in them; others carry a token in their path."""
_WRITER = re.compile(r"wafer[a-z0-9]+")
"""Schemes of `backends`, whose secrets stand in the environment."""
_SECRET = re.compile(r"password|token|secret|key|@", re.IGNORECASE)
_OPEN_FIELDS = {"to", "from", "cc", "bcc", "name", "reply", "mode", "smtp", "format"}
_SHORTEST_SECRET = 4
_MOST_BYTES = 16_384


def check_address(url: str, engine: Engine) -> str | None:
    """What is wrong with `url` as it is written, without the secrets that it names; None: nothing."""
    bare = _REFERENCE.sub("", url)
    if "${" in bare:
        return "a reference that is none: expected ${env:NAME} or ${file:/path}"
    if not _REFERENCE.fullmatch(url):
        scheme = urlsplit(url).scheme.lower()
        if engine is not Engine.APPRISE and scheme not in ("http", "https"):
            return f"{engine.value} needs an address that starts with http:// or https://, or ${{env:NAME}}"
        if bare == url:
            return _written_out(url, scheme)
    return None


def _written_out(url: str, scheme: str) -> str | None:
    if _WRITER.fullmatch(scheme) and not _SECRET.search(url):
        name, writers = scheme.removeprefix("wafer"), loading.names()
        return None if name in writers else f"there is no writer {name!r}: known are {', '.join(writers)}"
    if scheme not in _OPEN:
        return "such an address holds secrets: write ${env:NAME} or ${file:/path} and keep the address there"
    parts = urlsplit(url)
    known = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    if "@" in parts.netloc or not known <= (_OPEN_FIELDS if scheme.startswith("mailto") else set()):
        return "a user, a password or a token may stand in it: write ${env:NAME} or ${file:/path} in their place"
    return None


def real_address(url: str, environment: Mapping[str, str] = os.environ) -> str:
    """`url` with what its references name; AlertingRejected names a reference that leads nowhere.

    A reference that is the whole address is taken as it is; within one, what it names is escaped as that place needs.
    """
    whole = _REFERENCE.fullmatch(url)
    if whole:
        return _named(whole[1], whole[2], environment)
    return _REFERENCE.sub(lambda found: quote(_named(found[1], found[2], environment), safe=""), url)


def masked(text: str, address: str, url: str = "", environment: Mapping[str, str] = os.environ) -> str:
    """`text` without anything of `address` that may be secret: a library's words may repeat what it was given."""
    for secret in sorted(_secrets(address, url, environment), key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def _secrets(address: str, url: str, environment: Mapping[str, str]) -> set[str]:
    """The address, its user, password, path and query, whole and in parts, and what the references name."""
    found = {address}
    for kind, name in _REFERENCE.findall(url):
        found.add(_named(kind, name, environment))
    scheme, _, rest = address.partition("://")
    head, _, query = rest.partition("?")
    user, _, place = head.rpartition("@")
    shown = _OPEN_FIELDS if scheme.lower() in ("mailto", "mailtos") else set()
    pairs = [pair.partition("=") for pair in query.split("&")]
    found |= {rest, query, user, *user.split(":"), *(value for name, _, value in pairs if name not in shown)}
    parts = place.split("/")
    # What follows :// is a host in addresses that may be written out, and a token in many others.
    found |= set(parts[1:] if scheme.lower() in _OPEN else parts)
    found |= {quote(one, safe="") for one in found} | {unquote(one) for one in found}
    return {one for one in found if len(one) >= _SHORTEST_SECRET}


def _named(kind: str, name: str, environment: Mapping[str, str]) -> str:
    if kind == "env":
        value = environment.get(name, "").strip()
        if not value:
            raise AlertingRejected(f"${{env:{name}}}: the environment of this process has no {name}")
        return value
    try:
        with Path(name).open("rb") as file:
            value = file.read(_MOST_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise AlertingRejected(f"${{file:{name}}}: cannot be read: {reason}") from None
    if not value:
        raise AlertingRejected(f"${{file:{name}}}: the file is empty")
    return value
