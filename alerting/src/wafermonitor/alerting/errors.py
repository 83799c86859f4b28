"""What can go wrong when it is watched what should have happened.

AlertingError
├── AlertingUnavailable    the store or a channel does not answer: try again
└── AlertingRejected       will never work as it stands
    └── ScheduleRejected   a schedule, zone or calendar that cannot be followed
"""

from __future__ import annotations


class AlertingError(Exception):
    """Any error of this component."""


class AlertingUnavailable(AlertingError):  # noqa: N818 - named by what it means for the caller
    """The store or a channel does not answer; the same call may work later."""


class AlertingRejected(AlertingError):  # noqa: N818 - named by what it means for the caller
    """Will never work as it stands; the text names the thing and the fix."""


class ScheduleRejected(AlertingRejected):
    """A schedule, zone or calendar that cannot be followed."""
