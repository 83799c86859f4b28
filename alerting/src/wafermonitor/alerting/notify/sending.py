"""The ways out: Apprise for everything people read, JSON over HTTP for programs, Prometheus Alertmanager's API.

In: a channel and a message. Out: nothing, or an error that says why without saying where: addresses hold secrets.
Called by: notifier, `wafer alerting notify-test`. All of it blocks and is called in threads.

Nothing here logs what a library says: `apprise` and `requests` may name addresses.
"""

from __future__ import annotations

import base64
import http.client
import json
import logging
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from wafermonitor.alerting.errors import AlertingRejected, AlertingUnavailable
from wafermonitor.alerting.notify.addresses import masked, real_address
from wafermonitor.alerting.notify.messages import MOST_SHOWN, Message, facts, page, plain, said, write
from wafermonitor.alerting.notify.routes import Channel, Engine
from wafermonitor.runs.alerts import Alert, Kind, Severity
from wafermonitor.runs.state import SECOND_NS

LONGEST_ANSWER = 300
FIRES_S = 300.0
"""How long Alertmanager takes an alert for firing after it was last told."""
_ALERTS_PATH = "/api/v2/alerts"
_NEVER = "0001-01-01T00:00:00Z"  # how Go, and so every program that reads Alertmanager's messages, writes "no time"
_RETRY = (408, 425, 429)
_QUIET = ("apprise", "requests", "urllib3")


class Letter:
    """What is told to one channel: the message for people, and the alerts for programs."""

    def __init__(self, channel: Channel, kind: Kind, group: str, alerts: Sequence[Alert], *, url: str, now_ns: int) -> None:
        self.channel = channel
        self.kind = kind
        self.group = group
        self.alerts = alerts
        self.url = url
        self.now_ns = now_ns
        self.message: Message = write(channel, kind, alerts, url=url, now_ns=now_ns)


def send(letter: Letter) -> str:
    """What the channel answered, in a few words. AlertingUnavailable: try again; AlertingRejected: this will never work.

    Neither names the address or anything of it.
    """
    channel = letter.channel
    address = real_address(channel.url)
    try:
        if channel.engine is Engine.APPRISE:
            return _by_apprise(address, letter)
        if channel.engine is Engine.ALERTMANAGER:
            return _post(channel, alertmanager_address(address), alertmanager_alerts(letter))
        return _post(channel, address, webhook_body(letter))
    except (AlertingUnavailable, AlertingRejected) as error:
        raise type(error)(plain(masked(str(error), address, channel.url), LONGEST_ANSWER)) from None


def silence_libraries() -> None:
    """Nothing that they log goes anywhere but into a delivery's answer, masked."""
    for name in _QUIET:
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.setLevel(logging.WARNING)
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())


def webhook_body(letter: Letter) -> Any:
    """The JSON of a webhook: Alertmanager's version 4, so that what reads its messages reads ours, and our own text beside."""
    over = letter.kind is Kind.RESOLVED
    labels = [_labels(alert) for alert in letter.alerts]
    shown = letter.alerts[: 5 * MOST_SHOWN]
    return {
        "version": "4",
        "groupKey": letter.group,
        "truncatedAlerts": len(letter.alerts) - len(shown),
        "status": "resolved" if over else "firing",
        "receiver": letter.channel.name,
        "groupLabels": {name: value or "" for name, value in json.loads(letter.group)[1].items()},
        "commonLabels": _common(labels),
        "commonAnnotations": _common([_annotations(alert) for alert in letter.alerts]),
        "externalURL": letter.url,
        "alerts": [_webhook_alert(alert, letter) for alert in shown],
        "kind": letter.kind.value,
        "title": letter.message.title,
        "message": letter.message.body,
    }


def alertmanager_alerts(letter: Letter) -> Any:
    """The JSON that `POST /api/v2/alerts` takes; firing ones end by themselves unless they are told again."""
    return [
        {
            "labels": _labels(alert),
            "annotations": _annotations(alert),
            "startsAt": _instant(alert.since_ns),
            "endsAt": _instant(letter.now_ns + round(FIRES_S * SECOND_NS) if alert.resolved_ns is None else alert.resolved_ns),
            "generatorURL": page(letter.url, alert) if letter.url else "",
        }
        for alert in letter.alerts
    ]


def alertmanager_address(address: str) -> str:
    """The address of the API of the Alertmanager at `address`."""
    parts = urlsplit(address)
    path = parts.path.rstrip("/")
    return urlunsplit(parts._replace(path=path if path.endswith(_ALERTS_PATH) else path + _ALERTS_PATH))


def _webhook_alert(alert: Alert, letter: Letter) -> dict[str, Any]:
    return {
        "status": "firing" if alert.resolved_ns is None else "resolved",
        "labels": _labels(alert),
        "annotations": _annotations(alert),
        "startsAt": _instant(alert.since_ns),
        "endsAt": _NEVER if alert.resolved_ns is None else _instant(alert.resolved_ns),
        "generatorURL": page(letter.url, alert) if letter.url else "",
        "fingerprint": alert.fingerprint,
        "id": alert.id,
        "evidence": facts(alert.evidence),
    }


def _labels(alert: Alert) -> dict[str, str]:
    """What tells alerts apart, for programs; empty ones are left out."""
    subject = alert.subject
    found = {
        "alertname": alert.rule,
        "severity": alert.severity.word,
        "site": subject.site,
        "job": subject.job,
        "run": None if subject.run is None else subject.run.id,
        "feed": subject.feed,
        "detail": subject.detail,
        "owner": alert.owner,
    }
    return {name: plain(value) for name, value in found.items() if value}


def _common(found: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return {name: value for name, value in found[0].items() if all(one.get(name) == value for one in found)}


def _annotations(alert: Alert) -> dict[str, str]:
    found = {
        "summary": alert.summary,
        "description": "; ".join(text for text in (said(alert.evidence), alert.cause) if text),
        "runbook_url": alert.runbook,
        "alert_id": alert.id,
    }
    return {name: plain(value, 1_000) for name, value in found.items() if value}


def _instant(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns // SECOND_NS, UTC).isoformat().replace("+00:00", "Z")


def _by_apprise(address: str, letter: Letter) -> str:
    import apprise

    from wafermonitor.alerting.notify import backends

    silence_libraries()
    backends.register()
    if address.startswith(("mailto:", "mailtos:")) and "format=" not in address:
        address += ("&" if "?" in address else "?") + "format=text"
    asset = apprise.AppriseAsset(app_id="WaferMonitor", app_desc="WaferMonitor", app_url="", async_mode=False)
    with _said() as said:
        service = apprise.Apprise.instantiate(address, asset=asset)
        if service is None:
            raise AlertingRejected("Apprise takes this for no address: " + ("; ".join(said) or "unknown scheme"))
        if isinstance(service, backends.Backend):
            service.alerts, service.kind = letter.alerts, letter.kind
            service.now_ns, service.timeout_s = letter.now_ns, letter.channel.timeout_s
        sent = service.notify(
            title=letter.message.title,
            body=letter.message.body,
            notify_type=_kind(letter),
            body_format=apprise.NotifyFormat.TEXT,
        )
    if not sent:
        raise AlertingUnavailable("; ".join(said) or f"{service.service_name} did not take it")
    return "sent"


def _kind(letter: Letter) -> Any:
    import apprise

    if letter.kind is Kind.RESOLVED:
        return apprise.NotifyType.SUCCESS
    loudest = max(alert.severity for alert in letter.alerts)
    known = {Severity.INFO: apprise.NotifyType.INFO, Severity.WARNING: apprise.NotifyType.WARNING}
    return known.get(loudest, apprise.NotifyType.FAILURE)


@contextmanager
def _said() -> Iterator[list[str]]:
    """What Apprise warns of in this thread meanwhile: it answers only yes or no."""
    words: list[str] = []
    mine = threading.get_ident()

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == mine:
                words.append(record.getMessage())

    ear = Ear(logging.WARNING)
    logger = logging.getLogger("apprise")
    logger.addHandler(ear)
    try:
        yield words
    finally:
        logger.removeHandler(ear)


class _NoDetours(urllib.request.HTTPRedirectHandler):
    """A redirect may lead anywhere, with the message and its headers: it is an answer, and no success."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        """None: the answer stands as it is."""


def _post(channel: Channel, address: str, body: Any) -> str:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise AlertingRejected(f"{channel.engine.value} needs an address that starts with http:// or https://")
    headers = {"Content-Type": "application/json", "User-Agent": "wafermonitor", **_headers(channel)}
    if parts.username is not None:
        known = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(known.encode()).decode()
        address = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    request = urllib.request.Request(address, json.dumps(body, ensure_ascii=False).encode(), headers, method="POST")  # noqa: S310 - checked above
    opener = urllib.request.build_opener(_NoDetours)
    try:
        with opener.open(request, timeout=channel.timeout_s) as answer:
            return f"HTTP {answer.status}"
    except urllib.error.HTTPError as error:
        error.close()
        text = f"HTTP {error.code} {http.client.responses.get(error.code, '')}".strip()
        kind = AlertingUnavailable if error.code >= 500 or error.code in _RETRY else AlertingRejected  # noqa: PLR2004 - HTTP's own
        raise kind(text) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise AlertingUnavailable(f"no answer: {getattr(reason, 'strerror', None) or type(reason).__name__}") from None


def _headers(channel: Channel) -> Mapping[str, str]:
    return {name: real_address(value) if "${" in value else value for name, value in channel.headers.items()}
