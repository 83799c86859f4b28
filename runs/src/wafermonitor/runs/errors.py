"""What can be wrong with a run's description.

In: text and numbers from outside. Out: one error with the thing and the fix in its text. Called by: every layer above.

RunsError
└── RunsRejected          permanent: the same input will fail again
    └── RunIdRejected     `{run}` in a URL or on a command line is not `<trace id hex>-<span id hex>`
"""


class RunsError(Exception):
    """Something about a run could not be understood."""


class RunsRejected(RunsError):  # noqa: N818 - the pair Unavailable/Rejected is named alike in every component
    """Permanent: the same input will fail again."""


class RunIdRejected(RunsRejected):
    """A run is named `<trace id, 32 hex digits>-<span id, 16 hex digits>`."""
