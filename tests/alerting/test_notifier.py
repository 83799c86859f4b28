"""Messages on their way: sent once, in order, again when a channel fails, not any more when nobody needs them."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import threading
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.servers import http_sink, smtp
from wafermonitor.alerting.metrics import Meters
from wafermonitor.alerting.notify import Channel, Route, Routes, Step, plan
from wafermonitor.alerting.notify.notifier import GIVE_UP_S, Notifier, backoff_s
from wafermonitor.alerting.notify.routes import Engine
from wafermonitor.runs.alerts import Alert, DeliveryState, Finding, Kind, Severity, Silence, Subject, alert_id
from wafermonitor.storage.config import Config as StorageConfig
from wafermonitor.storage.connect import connect
from wafermonitor.storage.memory_watch import Watch
from wafermonitor.storage.watch import Outcome

SECOND = 1_000_000_000
NOON = 1_780_488_000 * SECOND
SECRET = "hunter2-sesame"
# Apprise imports a module that Python 3.13 has no more, where it is still there.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


class Desk:
    """A store, a clock, a notifier, and ticks that plan for it."""

    def __init__(self, *channels: Channel, route: Route | None = None) -> None:
        self.now_ns = NOON
        self.watch = Watch(lambda: self.now_ns)
        names = tuple(one.name for one in channels)
        self.routes = Routes({one.name: one for one in channels}, (route or Route("all", names, wait_s=0, pause_s=0),))
        self.meters = Meters(clock=lambda: self.now_ns / SECOND)
        self.notifier = self.another()
        self.alive: dict[str, Alert] = {}

    def another(self) -> Notifier:
        """A notifier of another process."""
        return Notifier(self.watch, self.routes, self.meters, url="https://wafer.fab.example", clock=lambda: self.now_ns)

    async def tick(self, *opened: Alert, resolved: tuple[Alert, ...] = ()) -> None:
        async with self.watch.lead() as lead:
            over = [one._replace(resolved_ns=self.now_ns) for one in resolved]
            for one in opened:
                self.alive[one.id] = one
            for one in over:
                self.alive.pop(one.id)
            rows = plan(
                self.routes,
                now_ns=self.now_ns,
                opened=opened,
                resolved=over,
                open_alerts=[await self.watch.alert(one) or self.alive[one] for one in self.alive],
                deliveries=await lead.deliveries(self.now_ns - round(self.routes.memory_s * SECOND)),
                silences=await lead.silences(),
            )
            await lead.store(Outcome(alerts=[*opened, *over], deliveries=rows))

    async def log(self, alert: Alert):
        return [(one.channel, one.kind, one.state, one.answer) for one in await self.watch.alert_deliveries(alert.id)]

    def later(self, seconds: float) -> None:
        self.now_ns += round(seconds * SECOND)

    def counted(self, channel: str, kind: str, end: str) -> float:
        return self.meters.registry.get_sample_value(
            "wafer_alerting_deliveries_total", {"channel": channel, "kind": kind, "end": end}
        )


def alert(job="etl", at_ns=NOON, severity=Severity.WARNING, summary="etl did not come by 02:10") -> Alert:
    found = Finding("missed", severity, Subject("F1", job), at_ns, summary, '{"late_s": 600, "of": "nightly"}', owner="ida")
    return Alert(
        alert_id(found.fingerprint, at_ns), found.fingerprint, found.rule, severity, found.subject, at_ns, at_ns, at_ns,
        found.summary, found.evidence, "the job before it, load, failed", "https://wiki.fab.example/etl", "ida",
    )  # fmt: skip


@pytest.fixture
def sink():
    with http_sink.start() as server:
        yield server


def hook(sink, name="hook", **fields) -> Channel:
    return Channel(name, sink.url + "/in", Engine.WEBHOOK, timeout_s=2.0, **fields)


async def test_a_webhook_is_told_once_of_beginning_and_end(sink):
    desk = Desk(hook(sink))
    one = alert()
    await desk.tick(one)
    assert await desk.notifier.once() == 1
    assert await desk.notifier.once() == 0
    desk.later(60)
    await desk.tick(resolved=(one,))
    await desk.notifier.once()
    assert [(request.path, request.json["status"]) for request in sink.requests] == [("/in", "firing"), ("/in", "resolved")]
    body = sink.requests[0].json
    assert body["version"] == "4"
    assert body["groupLabels"] == {"site": "F1", "rule": "missed"}
    assert body["alerts"][0]["labels"] == {
        "alertname": "missed", "severity": "warning", "site": "F1", "job": "etl", "owner": "ida",
    }  # fmt: skip
    assert body["alerts"][0]["generatorURL"] == f"https://wafer.fab.example/alerts?alert={one.id}"
    assert body["alerts"][0]["endsAt"] == "0001-01-01T00:00:00Z"
    assert body["title"] == "[warning] F1: etl did not come by 02:10"
    assert sink.requests[1].json["alerts"][0]["endsAt"] == "2026-06-03T12:01:00Z"
    assert await desk.log(one) == [
        ("hook", Kind.FIRING, DeliveryState.SENT, "HTTP 200"),
        ("hook", Kind.RESOLVED, DeliveryState.SENT, "HTTP 200"),
    ]
    assert desk.counted("hook", "firing", "sent") == desk.counted("hook", "resolved", "sent") == 1


async def test_alerts_of_one_group_from_two_ticks_are_one_message(sink):
    desk = Desk(hook(sink), route=Route("all", ("hook",), wait_s=30))
    await desk.tick(alert("a"))
    desk.later(10)
    await desk.tick(alert("b", desk.now_ns))
    assert await desk.notifier.once() == 0
    desk.later(20)
    assert await desk.notifier.once() == 2
    assert [len(request.json["alerts"]) for request in sink.requests] == [2]


async def test_a_channel_that_fails_is_tried_again_with_growing_pauses(sink):
    desk = Desk(hook(sink))
    one = alert()
    sink.status = 503
    await desk.tick(one)
    for pause_s in (10, 20, 40):
        await desk.notifier.once()
        assert await desk.log(one) == [("hook", Kind.FIRING, DeliveryState.WAITING, "HTTP 503 Service Unavailable")]
        assert desk.meters.registry.get_sample_value("wafer_alerting_channel_failing", {"channel": "hook"}) == 1
        desk.later(pause_s - 1)
        assert await desk.notifier.once() == 0
        desk.later(1)
    sink.status = 200
    await desk.notifier.once()
    assert await desk.log(one) == [("hook", Kind.FIRING, DeliveryState.SENT, "HTTP 200")]
    assert desk.meters.registry.get_sample_value("wafer_alerting_channel_failing", {"channel": "hook"}) == 0
    assert len(sink.requests) == 4


async def test_a_channel_that_does_not_answer_is_asked_once_for_all_its_messages(sink):
    desk = Desk(hook(sink), route=Route("all", ("hook",), wait_s=0, group_by=("alert",)))
    sink.status = 500
    await desk.tick(*(alert(f"job-{number}") for number in range(5)))
    await desk.notifier.once()
    assert len(sink.requests) == 1


async def test_after_a_day_it_gives_up_and_says_so(sink):
    desk = Desk(hook(sink))
    one = alert()
    sink.status = 503
    await desk.tick(one)
    for _ in range(200):
        await desk.notifier.once()
        desk.later(600)
    (entry,) = await desk.log(one)
    assert entry[2] is DeliveryState.DROPPED
    assert entry[3].startswith("gave up after ")
    assert entry[3].endswith("HTTP 503 Service Unavailable")
    assert desk.counted("hook", "firing", "gave_up") == 1
    assert GIVE_UP_S / 600 <= len(sink.requests) <= GIVE_UP_S / 600 + 8


async def test_what_is_refused_for_good_is_tried_five_times(sink):
    desk = Desk(hook(sink))
    one = alert()
    sink.status = 400
    await desk.tick(one)
    for _ in range(20):
        await desk.notifier.once()
        desk.later(600)
    assert len(sink.requests) == 5
    assert await desk.log(one) == [
        ("hook", Kind.FIRING, DeliveryState.DROPPED, "gave up after 5 attempts: HTTP 400 Bad Request")
    ]


async def test_a_refusal_after_a_long_outage_is_the_first_of_five(sink):
    desk = Desk(hook(sink))
    one = alert()
    sink.status = 503
    await desk.tick(one)
    for _ in range(10):
        await desk.notifier.once()
        desk.later(600)
    sink.status = 400
    for _ in range(4):
        await desk.notifier.once()
        desk.later(600)
    sink.status = 200
    await desk.notifier.once()
    assert [entry[2] for entry in await desk.log(one)] == [DeliveryState.SENT]


async def test_a_redirect_is_not_followed(sink):
    with http_sink.start() as elsewhere:
        sink.status, sink.headers = 307, {"location": elsewhere.url + "/stolen"}
        desk = Desk(hook(sink))
        one = alert()
        await desk.tick(one)
        await desk.notifier.once()
        assert elsewhere.requests == []
        assert (await desk.log(one))[0][3] == "HTTP 307 Temporary Redirect"


async def test_a_silent_channel_holds_neither_the_others_nor_the_notifier(sink):
    with http_sink.start() as other:
        desk = Desk(hook(sink)._replace(timeout_s=0.3), hook(other, "other"))
        sink.silent.set()
        one = alert()
        await desk.tick(one)
        await asyncio.wait_for(desk.notifier.once(), 10)
        log = {entry[0]: entry[2:] for entry in await desk.log(one)}
    assert log["other"] == (DeliveryState.SENT, "HTTP 200")
    assert log["hook"][0] is DeliveryState.WAITING
    assert log["hook"][1].startswith("no answer")


async def test_a_dead_channel_does_not_put_off_who_is_told_next(sink):
    with http_sink.start() as pager:
        desk = Desk(hook(sink), hook(pager, "pager"), route=Route("all", ("hook",), wait_s=0, steps=(Step(900, ("pager",)),)))
        sink.status = 503
        await desk.tick(alert())
        for _ in range(91):
            await desk.notifier.once()
            desk.later(10)
            await desk.tick()
        assert desk.now_ns == NOON + 910 * SECOND
        await desk.notifier.once()
        assert len(pager.requests) == 1


STORY = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from([1, 15, 40, 130, 700]),
        st.sampled_from(["open", "open", "resolve", "fail", "mend", "refuse", "die before", "die after", "wait"]),
    ),
    min_size=1,
    max_size=25,
)


@pytest.mark.timeout(600)
@given(STORY)
async def test_whatever_fails_everybody_is_told_and_only_the_death_of_a_notifier_tells_twice(story):
    with http_sink.start() as sink:
        desk = Desk(hook(sink), route=Route("all", ("hook",), wait_s=10, pause_s=20, cooldown_s=0))
        alive: dict[int, Alert] = {}
        deaths = 0
        for number, pause_s, act in story:
            opened, resolved = [], []
            if act == "open" and number not in alive:
                opened = [alive.setdefault(number, alert(f"job-{number}", desk.now_ns))]
            elif act == "resolve" and number in alive:
                resolved = [alive.pop(number)]
            elif act == "die before":
                await desk.watch.claim_deliveries(lease_s=120)
            elif act == "die after":
                before = len(sink.requests)
                await die_after_sending(desk)
                deaths += sum(len(one.json["alerts"]) for one in sink.requests[before:] if one.status == 200)
            elif act in ("fail", "mend", "refuse"):
                sink.status = {"fail": 503, "mend": 200, "refuse": 429}[act]
            await desk.tick(*opened, resolved=tuple(resolved))
            await desk.notifier.once()
            desk.later(pause_s)
        sink.status = 200
        for _ in range(12):
            desk.later(300)
            await desk.tick()
            await desk.notifier.once()
        taken = [request.json for request in sink.requests if request.status == 200]
    told = Counter((body["kind"], one["id"]) for body in taken for one in body["alerts"])
    assert {one.id for one in alive.values()} <= {one for kind, one in told if kind == "firing"}
    assert sum(told.values()) - len(told) <= deaths
    begun: set[str] = set()
    for body in taken:
        ids = {one["id"] for one in body["alerts"]}
        begun |= ids if body["kind"] == "firing" else set()
        assert ids <= begun
    for one in alive.values():
        assert all(state is not DeliveryState.WAITING for _, _, state, _ in await desk.log(one))


async def die_after_sending(desk: Desk) -> None:
    """As a notifier that is killed between the channel's answer and the store's."""

    class Killed(BaseException):
        pass

    class Mute:
        def __getattr__(self, name):
            return getattr(desk.watch, name)

        async def settle_delivery(self, *_: object) -> None:
            raise Killed

    dying = desk.another()
    dying._watch = Mute()
    with contextlib.suppress(Killed):
        await dying.once()


async def test_what_a_channel_took_after_its_deadline_is_not_sent_again(sink):
    sink.slow = threading.Event()
    desk = Desk(Channel("mail", f"json://127.0.0.1:{sink.port}/in", timeout_s=0.1))
    one = alert()
    await desk.tick(one)
    await desk.notifier.once()
    assert await desk.log(one) == [("mail", Kind.FIRING, DeliveryState.WAITING, "no answer within 0.1 s")]
    desk.later(10)
    await desk.notifier.once()
    assert await desk.log(one) == [("mail", Kind.FIRING, DeliveryState.WAITING, "the channel has not answered yet")]
    sink.slow.set()
    async with asyncio.timeout(10):
        while (await desk.log(one))[0][2] is DeliveryState.WAITING:
            await asyncio.sleep(0.01)
    assert await desk.log(one) == [("mail", Kind.FIRING, DeliveryState.SENT, "late: sent")]
    desk.later(600)
    assert await desk.notifier.once() == 0
    assert len(sink.requests) == 1


async def test_two_notifiers_send_one_message(sink):
    desk = Desk(hook(sink))
    await desk.tick(alert())
    await asyncio.gather(desk.notifier.once(), desk.another().once())
    assert len(sink.requests) == 1


async def test_a_message_of_a_notifier_that_died_is_sent_by_another(sink):
    desk = Desk(hook(sink))
    one = alert()
    await desk.tick(one)
    assert len(await desk.watch.claim_deliveries(lease_s=120)) == 1
    assert await desk.another().once() == 0
    desk.later(121)
    assert await desk.another().once() == 1
    assert [entry[2] for entry in await desk.log(one)] == [DeliveryState.SENT]


async def test_what_is_over_before_it_was_told_is_told_to_nobody(sink):
    desk = Desk(hook(sink), route=Route("all", ("hook",), wait_s=30))
    one = alert()
    await desk.tick(one)
    desk.later(15)
    await desk.tick(resolved=(one,))
    for _ in range(5):
        await desk.notifier.once()
        desk.later(30)
    assert sink.requests == []
    assert {entry[1:] for entry in await desk.log(one)} == {
        (Kind.FIRING, DeliveryState.DROPPED, "over before it was told"),
        (Kind.RESOLVED, DeliveryState.DROPPED, "nobody was told that it began"),
    }


async def test_what_fired_while_the_channel_was_down_is_told_late(sink):
    desk = Desk(hook(sink))
    one = alert()
    sink.status = 503
    await desk.tick(one)
    await desk.notifier.once()
    desk.later(5)
    await desk.tick(resolved=(one,))
    sink.status = 200
    for _ in range(4):
        desk.later(10)
        await desk.notifier.once()
    told = [request.json for request in sink.requests[1:]]
    assert [body["alerts"][0]["status"] for body in told] == ["resolved", "resolved"]
    assert told[0]["title"].startswith("[over: warning]")


async def test_one_silenced_meanwhile_is_told_after_the_silence(sink):
    desk = Desk(hook(sink), route=Route("all", ("hook",), wait_s=30))
    one = alert()
    await desk.tick(one)
    await desk.watch.silence(Silence("ab" * 16, NOON + 600 * SECOND, "ida", "works", NOON, site="F1"))
    desk.later(30)
    await desk.notifier.once()
    await desk.tick()
    assert sink.requests == []
    assert (await desk.log(one))[0][3] == "withdrawn: silenced by ida"
    desk.later(600)
    await desk.tick()
    await desk.notifier.once()
    assert len(sink.requests) == 1


async def test_what_is_acknowledged_meanwhile_is_not_escalated(sink):
    with http_sink.start() as pager:
        route = Route("all", ("hook",), wait_s=0, steps=(Step(60, ("pager",)), Step(120, ("pager",))))
        desk = Desk(hook(sink), hook(pager, "pager"), route=route)
        one = alert()
        await desk.tick(one)
        await desk.notifier.once()
        desk.later(60)
        await desk.tick()
        await desk.notifier.once()
        assert [request.json["kind"] for request in pager.requests] == ["escalated"]
        assert pager.requests[0].json["title"].startswith("[not acknowledged: warning]")
        desk.later(60)
        await desk.tick()
        await desk.watch.acknowledge(one.id, "ida")
        await desk.notifier.once()
        assert len(pager.requests) == 1
        assert (await desk.log(one))[-1][3] == "acknowledged before it was told"


async def test_an_end_waits_for_its_beginning(sink):
    desk = Desk(hook(sink), route=Route("all", ("hook",), wait_s=0, group_by=("alert",)))
    one = alert()
    await desk.tick(one)
    (held,) = await desk.watch.claim_deliveries(lease_s=1000)
    desk.later(1)
    await desk.tick(resolved=(one,))
    await desk.notifier.once()
    assert sink.requests == []
    await desk.watch.settle_delivery(held.id, held.attempts, DeliveryState.SENT, "HTTP 200")
    desk.later(5)
    await desk.notifier.once()
    assert [request.json["status"] for request in sink.requests] == ["resolved"]


async def test_a_channel_that_nobody_knows_is_waited_for_and_given_up(sink):
    desk = Desk(hook(sink))
    one = alert()
    await desk.tick(one)
    older = desk.another()
    older.routes = Routes()
    await older.once()
    assert (await desk.log(one))[0][2:] == (DeliveryState.WAITING, "there is no channel 'hook'")
    for _ in range(5):
        desk.later(600)
        await older.once()
    assert (await desk.log(one))[0][2:] == (DeliveryState.DROPPED, "gave up after 5 attempts: there is no channel 'hook'")
    assert sink.requests == []


async def test_alertmanager_is_told_again_while_an_alert_fires(sink):
    desk = Desk(Channel("am", sink.url, Engine.ALERTMANAGER))
    one = alert()
    await desk.tick(one)
    await desk.notifier.once()
    for _ in range(3):
        await desk.notifier.refresh()
        desk.later(60)
    desk.later(1)
    await desk.tick(resolved=(one,))
    await desk.notifier.once()
    await desk.notifier.refresh()
    assert {request.path for request in sink.requests} == {"/api/v2/alerts"}
    bodies = [request.json[0] for request in sink.requests]
    assert len(bodies) == 5
    assert {body["startsAt"] for body in bodies} == {"2026-06-03T12:00:00Z"}
    assert len({tuple(sorted(body["labels"].items())) for body in bodies}) == 1
    assert [body["endsAt"] for body in bodies] == [
        "2026-06-03T12:05:00Z", "2026-06-03T12:05:00Z", "2026-06-03T12:06:00Z", "2026-06-03T12:07:00Z", "2026-06-03T12:03:01Z",
    ]  # fmt: skip


async def test_mail_goes_over_tls_with_a_login(tmp_path, monkeypatch):
    files = smtp.certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(files[0]))
    monkeypatch.setenv("SMTP_PASSWORD", SECRET)
    for tls in ("starttls", "ssl"):
        with smtp.start(tls=tls, certificate=files, login=("ida", SECRET)) as server:
            url = f"mailtos://ida:${{env:SMTP_PASSWORD}}@127.0.0.1:{server.port}?mode={tls}&from=wafer@fab.example&to=it@fab.example"
            desk = Desk(Channel("mail", url))
            one = alert()
            await desk.tick(one)
            await desk.notifier.once()
            assert await desk.log(one) == [("mail", Kind.FIRING, DeliveryState.SENT, "sent")]
            assert server.logins == ["ida"]
            assert server.encrypted == [True]
            (letter,) = server.letters
            assert letter["subject"] == "[warning] F1: etl did not come by 02:10"
            assert letter.get_content_type() == "text/plain"
            assert letter.get_content().splitlines() == [
                "warning: etl did not come by 02:10",
                "since 2026-06-03 12:00:00 UTC, for 0 s",
                "rule missed · site F1 · job etl",
                "evidence: late 10 min, of nightly",
                "cause: the job before it, load, failed",
                "owner: ida",
                "runbook: https://wiki.fab.example/etl",
                f"link: https://wafer.fab.example/alerts?alert={one.id}",
            ]


async def test_mail_that_is_refused_waits_and_the_answer_says_why():
    with smtp.start() as server:
        server.refusal = "452 out of room"
        desk = Desk(Channel("mail", f"mailto://127.0.0.1:{server.port}?from=wafer@fab.example&to=it@fab.example"))
        one = alert()
        await desk.tick(one)
        await desk.notifier.once()
        (entry,) = await desk.log(one)
        assert entry[2] is DeliveryState.WAITING
        assert entry[3] == 'Sending email to "it@fab.example" failed.'
        server.refusal = ""
        desk.later(10)
        await desk.notifier.once()
        assert len(server.letters) == 1


async def test_no_secret_of_a_channel_is_logged_or_kept(sink, monkeypatch):
    logged = io.StringIO()
    monkeypatch.setattr(logging.root, "handlers", [logging.StreamHandler(logged)])
    monkeypatch.setattr(logging.root, "level", logging.DEBUG)
    sink.status = 403
    host = sink.url.removeprefix("http://")
    addresses = {
        "A": f"json://user:{SECRET}@{host}/{SECRET}?+X-Key={SECRET}",
        "B": f"http://user:{SECRET}@{host}/{SECRET}?token={SECRET}",
        "C": f"mailtos://user:{SECRET}@127.0.0.1:1?to=it@fab.example&from=a@fab.example&mode=ssl",
        "D": f"nosuchscheme://{SECRET}/{SECRET}",
        "E": f"http://{SECRET}:notaport/",
        "F": f"slack://{SECRET}",
    }
    for name, address in addresses.items():
        monkeypatch.setenv(f"URL_{name}", address)
    monkeypatch.setenv("TOKEN", SECRET)
    engines = {"B": Engine.WEBHOOK, "E": Engine.ALERTMANAGER}
    channels = [
        Channel(name, f"${{env:URL_{name}}}", engines.get(name, Engine.APPRISE), headers={"X-Key": "${env:TOKEN}"})
        for name in addresses
    ]
    desk = Desk(*channels, Channel("missing", "${env:URL_NONE}"))
    one = alert()
    await desk.tick(one)
    await desk.notifier.once()
    log = await desk.log(one)
    assert len(log) == 7
    assert all(state is DeliveryState.WAITING and answer for _, _, state, answer in log)
    assert SECRET not in repr(log)
    assert SECRET not in logged.getvalue()
    assert "again in 10 s" in logged.getvalue()
    assert SECRET.encode() not in desk.meters.text()
    assert any(request.headers.get("x-key") == SECRET for request in sink.requests)
    assert any("authorization" in request.headers for request in sink.requests)


@pytest.mark.postgres
async def test_over_postgresql_two_notifiers_send_one_message_of_each_kind(postgres, sink, monkeypatch):
    monkeypatch.setenv("WAFER_STORAGE_DSN", postgres.migrated())
    opened = await connect(StorageConfig.load(), watch=True)
    try:
        desk = Desk(hook(sink))
        desk.watch = opened.watch
        desk.now_ns = time.time_ns()
        one = alert(at_ns=desk.now_ns)
        await desk.tick(one)
        assert sum(await asyncio.gather(desk.another().once(), desk.another().once())) == 1
        desk.now_ns = time.time_ns()
        await desk.tick(resolved=(one,))
        assert sum(await asyncio.gather(desk.another().once(), desk.another().once())) == 1
        assert [request.json["status"] for request in sink.requests] == ["firing", "resolved"]
        assert [entry[1:] for entry in await desk.log(one)] == [
            (Kind.FIRING, DeliveryState.SENT, "HTTP 200"),
            (Kind.RESOLVED, DeliveryState.SENT, "HTTP 200"),
        ]
    finally:
        await opened.close()


async def test_the_loop_sends_as_soon_as_it_is_poked_and_ends_when_it_is_told(sink):
    desk = Desk(hook(sink))
    stop = asyncio.Event()
    running = asyncio.create_task(desk.notifier.run(stop))
    await desk.tick(alert())
    desk.notifier.poke()
    async with asyncio.timeout(10):
        while not sink.requests:
            await asyncio.sleep(0.01)
    stop.set()
    await asyncio.wait_for(running, 5)


def test_pauses_grow_to_ten_minutes():
    assert [backoff_s(number) for number in (1, 2, 3, 4, 7, 8, 1000)] == [10, 20, 40, 80, 600, 600, 600]
