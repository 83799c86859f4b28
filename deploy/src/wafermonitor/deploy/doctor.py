"""Which hop is broken, why, and what to do next: SDK → Collector → receiver → store → API → alerting → screens.

In: the addresses of one host's services. Out: one `Finding` per check, in flow order. Called by: `wafer doctor`.
Nothing is changed and no secret is printed. With `probe`, one short run is sent and looked for at the other end.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import HTTPException
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from wafermonitor.deploy.addresses import Addresses
from wafermonitor.instrumentation import onward
from wafermonitor.instrumentation.config import Config as InstrumentationConfig
from wafermonitor.instrumentation.direct import Direct
from wafermonitor.instrumentation.errors import InstrumentationError

TIMEOUT_S = 3.0
SKEW_WARN_S = 5.0
DISK_WARN_RATIO = 0.05
Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. `cause` and `next` are empty when all is well."""

    hop: str
    status: Status
    found: str
    cause: str = ""
    next: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; status 0 means that nobody answered, and `body` says why."""

    status: int
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body's JSON object, {} when it is none."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


def examine(addresses: Addresses, *, job: InstrumentationConfig, data_home: Path) -> Iterator[Finding]:
    """Every check in flow order. `job`: as a job on this host is set up."""
    yield check_python()
    yield from check_settings()
    if job.writes_itself:
        yield from check_backends(job)
    else:
        yield check_sdk(job.mode, job.endpoint, job.token)
    yield check_spool(job.spool_dir)
    yield check_collector(addresses.collector_health)
    yield check_queue(addresses.collector_metrics)
    yield check_receiver(addresses.receiver_http)
    yield check_store(addresses.query)
    yield check_api(addresses.query)
    yield check_clock(addresses.query)
    yield check_feeds(addresses.query)
    yield check_alerting(addresses.query)
    yield check_screens(addresses.ui)
    yield check_disk(data_home)


def check_python() -> Finding:
    """The interpreter and the installed version."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    return Finding("python", "ok", f"Python {version}, wafermonitor {metadata.version('wafermonitor')}")


def check_settings() -> Iterator[Finding]:
    """Every installed component's settings can be read."""
    for entry in sorted(metadata.entry_points(group="wafermonitor.configs"), key=lambda entry: entry.name):
        try:
            entry.load().options()
        except ImportError:
            continue  # its extra is not installed on this host: nothing to check
        except InstrumentationError as error:
            yield Finding(
                "settings", "fail", str(error), "a setting is wrong", f"mend it, then: wafer config show ({entry.name})"
            )
    yield Finding("settings", "ok", "readable")


def check_sdk(mode: str, endpoint: str, token: str | None) -> Finding:
    """What a job on this host would meet: an OTLP/HTTP endpoint that takes an empty request."""
    if mode in {"file", "off"}:
        sends = "to the file spool only" if mode == "file" else "nothing"
        return Finding("sdk", "warn", f"jobs report {sends}", f"the mode is {mode}", "set WAFER_MODE to sidecar or direct")
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    answer = call(f"{endpoint.rstrip('/')}/v1/logs", body=b"{}", headers=headers)
    if answer.status == HTTPStatus.OK:
        return Finding("sdk", "ok", f"{endpoint} takes OTLP")
    if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return Finding("sdk", "fail", f"{endpoint} answers {answer.status}", "the token is wrong or missing", "set WAFER_TOKEN")
    if answer.status == 0:
        listener, command = ("Collector", "wafer collector run") if mode == "sidecar" else ("receiver", "wafer receiver")
        hint = f"start it: {command} (until then jobs write to the file spool)"
        return Finding("sdk", "fail", f"{endpoint} does not answer", f"no {listener} listens there", hint)
    return Finding("sdk", "fail", f"{endpoint} answers {answer.status}", "it is not an OTLP/HTTP endpoint", "check SIDECAR_URL")


def check_backends(job: InstrumentationConfig) -> Iterator[Finding]:
    """What a job that writes to its backends itself would meet: one that answers is enough, and those before it are named."""
    direct = Direct.of(job, os.environ)
    answering = False
    for lane, problem in direct.check():
        place = f"{lane.backend} of direct_backends"
        if problem:
            hint = f"mend it, or take it out of the list ({lane.backend.place}); until then the next one, or the spool, has all"
            yield Finding("sdk", "warn", f"{place} takes nothing", problem, hint)
        else:
            answering = True
            yield Finding("sdk", "ok", f"{place} answers")
    for signal in direct.homeless():
        hint = "add a backend that has one, such as files"
        yield Finding("sdk", "warn", f"{signal} are not sent", "no backend of direct_backends has a place for them", hint)
    direct.close()
    if not answering:
        hint = "until one does, jobs write to the file spool; `wafer replay` sends it"
        yield Finding("sdk", "fail", "none of direct_backends answers", "see above", hint)


def check_spool(spool: Path) -> Finding:
    """Files that jobs left because nothing answered."""
    sizes = []
    for path in spool.rglob("*.jsonl"):
        with suppress(OSError):  # sent and removed meanwhile
            sizes.append(path.stat().st_size)
    if not sizes:
        return Finding("spool", "ok", "empty")
    found = f"{len(sizes)} files, {sum(sizes):,} bytes wait in the file spool"
    return Finding("spool", "warn", found, "no Collector answered when jobs ended", f"wafer replay {spool}")


def check_collector(health: str) -> Finding:
    """The Collector's own health endpoint."""
    answer = call(f"http://{health}/")
    if answer.status == HTTPStatus.OK:
        return Finding("collector", "ok", f"healthy on {health}")
    if answer.status == 0:
        return Finding("collector", "fail", f"nothing on {health}", "the Collector is not running", "wafer collector run")
    return Finding("collector", "fail", f"{health} answers {answer.status}", "the Collector is not ready", "read its log")


def check_queue(metrics: str) -> Finding:
    """What waits in the Collector's queue, and what it dropped: a wrong token (401) loses data at once."""
    answer = call(f"http://{metrics}/metrics")
    if answer.status != HTTPStatus.OK:
        return Finding(
            "queue",
            "warn",
            f"no metrics on {metrics}",
            "the Collector is not running, or its metrics port differs",
            "see collector; WAFER_METRICS_PORT names the port",
        )
    page = onward.parse(answer.body.decode("utf-8", "replace"))
    for exporter, kinds in page.dropped.items():
        kind, found = max(kinds, key=lambda name: kinds[name]), f"{exporter} dropped {sum(kinds.values()):,.0f} records"
        return Finding("queue", "fail", found, f"the far end refuses them for good: {kind or 'unknown'}", onward.remedy(kind))
    refused = sum(queue.refused for queue in page.queues.values())
    if refused:
        found = f"{refused:,.0f} items found the queue full"
        return Finding("queue", "warn", found, "the receiver is away; senders keep what is refused", "see the receiver below")
    waiting = sum(queue.used for queue in page.queues.values())
    if waiting:
        found = f"{onward.size(waiting)} wait"
        return Finding("queue", "warn", found, "the receiver is slow or away", "see the receiver below")
    return Finding("queue", "ok", "empty, nothing dropped")


def check_receiver(address: str) -> Finding:
    """The receiver, and through it the way to the database."""
    answer = call(f"http://{address}/readyz")
    if answer.status == HTTPStatus.OK:
        return Finding("receiver", "ok", f"ready on {address}")
    if answer.status == 0:
        return Finding(
            "receiver", "fail", f"nothing on {address}", "the receiver is not running", "wafer receiver, or wafer up"
        )
    return Finding(
        "receiver", "fail", f"{address} answers {answer.status}", "it cannot reach its store", "wafer storage status"
    )


def check_store(address: str) -> Finding:
    """The database as the read API sees it."""
    health = call(f"http://{address}/readyz").json
    if health.get("engine"):
        return Finding(
            "store", "ok", f"{health['engine']} {health.get('version')}, newest {health.get('newest_received') or 'none'}"
        )
    return Finding("store", "fail", "not seen", "the database or the API is away", "wafer storage status")


def check_api(address: str) -> Finding:
    """The read API."""
    answer = call(f"http://{address}/readyz")
    if answer.status == HTTPStatus.OK:
        return Finding("api", "ok", f"ready on {address}")
    return Finding(
        "api", "fail", f"{address} answers {answer.status or 'nothing'}", "the read API is away", "wafer query, or wafer up"
    )


def check_clock(address: str) -> Finding:
    """This host's clock against the API's."""
    text = call(f"http://{address}/v1/sites").json.get("server_time")
    if not isinstance(text, str):
        return Finding("clock", "warn", "not compared", "the API does not answer", "see api")
    skew_s = (datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds()
    if abs(skew_s) > SKEW_WARN_S:
        return Finding(
            "clock", "warn", f"{skew_s:+.1f} s against the API", "one of the clocks is wrong", "check NTP on both hosts"
        )
    return Finding("clock", "ok", f"{skew_s:+.1f} s against the API")


def check_feeds(address: str) -> Finding:
    """Without a beating feed a cut link looks like silence."""
    sites = call(f"http://{address}/v1/sites").json.get("items", [])
    feeds = [(site["site"], feed) for site in sites for feed in site.get("feeds", [])]
    behind = [f"{feed['feed']} of {site}" for site, feed in feeds if feed.get("behind")]
    if behind:
        return Finding(
            "feeds", "warn", f"behind: {', '.join(behind)}", "their link is cut or their host is down", "look at that host"
        )
    if not any(feed.get("watermark") for _, feed in feeds):
        hint = "wafer collector run sends one, wafer collector beat does so beside another Collector"
        return Finding("feeds", "warn", "no feed beats", "a cut link would look like silent jobs", hint)
    return Finding("feeds", "ok", f"{len(feeds)} beating")


def check_alerting(address: str) -> Finding:
    """Whether somebody looks at what should have happened: while nobody does, no alert means nothing."""
    answer = call(f"http://{address}/v1/alerts?open=true&limit=1000")
    if answer.status != HTTPStatus.OK:
        said = answer.json.get("title") or f"the API answers {answer.status or 'nothing'}"
        return Finding("alerting", "warn", f"not seen: {said}", "no store of alerts answers", "see store and api")
    page = answer.json
    if not page.get("evaluating"):
        found = f"last evaluated {page.get('evaluated_at') or 'never'}"
        return Finding("alerting", "fail", found, "the evaluator is not running", "wafer alerting run, or wafer up")
    alerts = [alert for alert in page.get("items", []) if isinstance(alert, dict)]
    loud = [alert for alert in alerts if alert.get("severity") == "critical"]
    found = f"evaluated {page.get('evaluated_at')}, {len(alerts)} open alerts"
    if loud:
        told = "; ".join(str(alert.get("summary")) for alert in loud[:3])
        return Finding(
            "alerting", "warn", f"{found}, {len(loud)} critical: {told}", "something is wrong", "see the alerts page"
        )
    return Finding("alerting", "ok", found)


def check_screens(address: str) -> Finding:
    """The Panel app."""
    answer = call(f"http://{address}/healthz")
    if answer.status == HTTPStatus.OK:
        return Finding("ui", "ok", f"http://{address}/")
    return Finding(
        "ui", "fail", f"{address} answers {answer.status or 'nothing'}", "the screens are away", "wafer ui, or wafer up"
    )


def check_disk(data_home: Path) -> Finding:
    """Room for the database, the queue and the spool."""
    place = next(path for path in (data_home, *data_home.parents) if path.is_dir())
    usage = shutil.disk_usage(place)
    found = f"{usage.free / 2**30:,.1f} GiB free for {data_home}"
    if usage.free < usage.total * DISK_WARN_RATIO:
        return Finding("disk", "warn", found, "the disk is nearly full", "free some, or move the data folder")
    return Finding("disk", "ok", found)


def probe(address: str, send: Callable[[], str], wait_s: float = 15.0) -> Finding:
    """Send one run (`send` returns its {run}) and look for it at the API."""
    run, began = send(), time.monotonic()
    while time.monotonic() - began < wait_s:
        if call(f"http://{address}/v1/jobs/{run}").status == HTTPStatus.OK:
            return Finding("probe", "ok", f"a run arrived after {time.monotonic() - began:.1f} s")
        time.sleep(0.1)
    return Finding(
        "probe", "fail", f"{run} did not arrive within {wait_s:g} s", "see the first failing hop above", "mend it first"
    )


def call(url: str, *, body: bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
    """One bounded HTTP call that never raises."""
    request = urllib.request.Request(url, data=body, headers=headers or {})  # noqa: S310 - addresses of our own services
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310 - as above
            return Answer(response.status, response.read(4 << 20))
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.read(4 << 20))
    except (OSError, ValueError, HTTPException) as error:  # HTTPException: something else than a web server answers
        return Answer(0, str(error).encode())


def report(findings: list[Finding]) -> dict[str, Any]:
    """The findings as one JSON object; `ok` is false when any check failed."""
    return {"ok": all(finding.status != "fail" for finding in findings), "checks": [asdict(finding) for finding in findings]}
