"""What an answer must be. Each function fails with a sentence that stands in the table.

In: an `Answer`. Out: nothing, or an AssertionError. Called by: the cases.
"""

from __future__ import annotations

import re

from google.rpc import error_details_pb2

from . import rules, telemetry
from .wire import MEDIA, Answer, Client

INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNIMPLEMENTED = 3, 8, 12
RETRYABLE = {1, 4, 10, 11, 14, 15}
RETRYABLE_HTTP = {429, 502, 503, 504}
BROKEN = {2, 13}
LEAKS = re.compile(
    r"Traceback|File \"|goroutine \d|panic:|\bat [\w.$]+\([\w.]+:\d+\)|[\w/]+\.(?:py|go|rs|java|cc|cpp):\d+"
    r"|(?:^|[\s'\"(])/(?:usr|home|root|opt|var|etc|tmp|src|go)/|\b(?:postgres(?:ql)?|mysql|clickhouse|mongodb|redis)://|password",
    re.IGNORECASE,
)


def accepted(answer: Answer) -> None:
    """All of it was taken."""
    assert answer.ok, f"{answer}: {answer.message[:200]}"
    assert not answer.unreadable, f"{answer}"
    assert not answer.rejected, f"{answer}: {answer.response}"


def refused(answer: Answer) -> None:
    """A refusal that says: do not send this again."""
    assert not answer.silent, f"{answer}"
    assert not answer.ok, f"accepted: {answer}"
    if answer.http is None:
        assert answer.code not in RETRYABLE, f"{answer} tells the sender to try again"
        assert answer.code != RESOURCE_EXHAUSTED or answer.retry_s is None, f"{answer} with RetryInfo"
    else:
        assert 400 <= answer.http < 500, f"{answer}"
        assert answer.http not in RETRYABLE_HTTP, f"{answer} tells the sender to try again"


def bad_data(answer: Answer) -> None:
    """400 or INVALID_ARGUMENT."""
    assert not answer.silent, f"{answer}"
    if answer.http is None:
        assert answer.code == INVALID_ARGUMENT, f"{answer}"
    else:
        assert answer.http == 400, f"{answer}"


def bad_or_rejected(answer: Answer, items: int = 1) -> None:
    """The request was refused as bad data, or these items of it were rejected."""
    if answer.ok:
        assert answer.rejected == items, f"accepted: {answer}"
    else:
        bad_data(answer)


def decided(answer: Answer) -> None:
    """Taken, or refused in a way that says whose fault it is: never UNKNOWN, INTERNAL, 5xx, or silence."""
    assert not answer.silent, f"{answer}"
    if not answer.ok:
        if answer.http is None:
            assert answer.code not in BROKEN, f"{answer}: {answer.message[:200]}"
        refused(answer)


def status_body(answer: Answer, client: Client) -> None:
    """A readable `google.rpc.Status` in the request's content type."""
    assert not answer.ok, f"accepted: {answer}"
    assert answer.media == MEDIA[client.transport], f"{answer}: body is {answer.media or 'of no content type'}"
    assert answer.status is not None, f"{answer}"


def bad_request_details(answer: Answer) -> None:
    """`Status.details` has a BadRequest that says something."""
    info = error_details_pb2.BadRequest()
    found = [one for one in (answer.status.details if answer.status else ()) if one.Unpack(info)]
    assert found, f"{answer}: no BadRequest in Status.details"
    assert all(violation.description for violation in info.field_violations), "a violation without description"
    assert info.field_violations, "BadRequest says nothing"


def discreet(answer: Answer) -> None:
    """Nothing of the server's inside is in the text."""
    seen = answer.message + answer.body.decode("utf-8", "replace")
    found = LEAKS.search(seen)
    assert found is None, f"{answer}: {seen[max(0, found.start() - 40) : found.end() + 40]!r}"


def alive(client: Client, signal: str = "traces") -> None:
    """The next request is answered as if nothing had been."""
    answer = client.export(signal, telemetry.good(signal))
    assert answer.ok, f"after it: {answer}"


def is_http(client: Client) -> bool:
    """Whether the client speaks HTTP."""
    return client.transport != rules.GRPC
