"""Records of alerting with everything filled in, so that a test names only what it is about."""

from __future__ import annotations

from tests.storage.contract.builders import HOUR, NOW, SECOND, SITE
from wafermonitor.runs.alerts import (
    Alert,
    Delivery,
    Expectation,
    ExpectedRun,
    Finding,
    Kind,
    Origin,
    Severity,
    Silence,
    Subject,
)
from wafermonitor.runs.expectations import Expected, ExpectedState


def expectation(name: str = "nightly", **given: object) -> Expectation:
    one = Expectation(name, SITE, "lot_yield", Origin.API, '{"cron": "0 2 * * *"}', NOW, NOW, NOW)
    return one._replace(**given)


def expected(number: int = 0, **given: object) -> ExpectedRun:
    nominal_ns = NOW + number * HOUR
    due = Expected(nominal_ns, nominal_ns - HOUR, nominal_ns + 60 * SECOND, nominal_ns + HOUR)
    return ExpectedRun("nightly", SITE, "lot_yield", "", due, ExpectedState.EXPECTED)._replace(**given)


def alert(number: int = 1, **given: object) -> Alert:
    subject = Subject(site=SITE, job="lot_yield", detail=str(number))
    fingerprint = Finding("missed", Severity.WARNING, subject, NOW, "").fingerprint
    one = Alert(
        f"{number:032x}", fingerprint, "missed", Severity.WARNING, subject, NOW + number, NOW, NOW, "it did not come", "{}"
    )
    return one._replace(**given)


def delivery(number: int = 1, **given: object) -> Delivery:
    one = Delivery(f"d{number}", "mail", Kind.FIRING, "f1", (f"{number:032x}",), NOW + number, NOW)
    return one._replace(**given)


def silence(**given: object) -> Silence:
    return Silence("s1", NOW + HOUR, "ann", "maintenance", NOW, SITE)._replace(**given)
