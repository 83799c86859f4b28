"""What can go wrong between a question and its answer. The first question about each: is it worth another try?

In: bad parameters, a store that does not answer. Out: these; `problems` turns them into RFC 9457 bodies on the server, and
`client` raises the same ones from such bodies. Called by: routes, client, ui.

QueryError
├── QueryUnavailable        retry: the store or the API does not answer now
└── QueryRejected           permanent: the same question will fail again
    ├── ParameterRejected   a parameter is wrong: names it and the fix
    ├── NotFound            nothing has this name or id
    │   └── RunNotFound     no run and no span has these ids
    ├── FormatRejected      none of the media types asked for is offered here
    ├── WriteRejected       a change from where none is taken, or in a form that a browser can be tricked to send
    ├── Conflicting         a change of what only a file decides, or that has been decided
    └── NotKept             the store keeps nothing of the kind: names the setting
"""

from __future__ import annotations

from http import HTTPStatus


class QueryError(Exception):
    """The question could not be answered. `status` is the HTTP status it travels with."""

    status: int = HTTPStatus.INTERNAL_SERVER_ERROR

    def __init__(self, detail: str, *, status: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = self.status if status is None else status


class QueryUnavailable(QueryError):  # noqa: N818 - the pair Unavailable/Rejected is named alike in every component
    """No answer now; try again after `retry_after_s` seconds."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    retry_after_s = 2


class QueryRejected(QueryError):  # noqa: N818 - as above
    """The same question will never be answered."""

    status = HTTPStatus.BAD_REQUEST


class ParameterRejected(QueryRejected):
    """A parameter is wrong. `parameter` is its name as the caller wrote it, `fix` says what is expected."""

    def __init__(self, parameter: str, fix: str) -> None:
        super().__init__(f"{parameter}: {fix}")
        self.parameter = parameter
        self.fix = fix


class NotFound(QueryRejected):
    """Nothing has this name or id."""

    status = HTTPStatus.NOT_FOUND


class RunNotFound(NotFound):
    """No run and no span has these ids."""


class FormatRejected(QueryRejected):
    """None of the media types asked for is offered here."""

    status = HTTPStatus.NOT_ACCEPTABLE


class WriteRejected(QueryRejected):
    """A change that is not taken from there, or not in that form."""

    status = HTTPStatus.FORBIDDEN


class Conflicting(QueryRejected):
    """A change of what only a file decides, or of what has been decided."""

    status = HTTPStatus.CONFLICT


class NotKept(QueryRejected):
    """This store keeps nothing of the kind."""

    status = HTTPStatus.NOT_IMPLEMENTED
