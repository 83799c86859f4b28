"""What can go wrong around a job. None of these ever leaves a job's own code path: instrumentation never raises into the job.

In: bad settings, endpoints that do not answer, broken spool files. Out: these, on the command line.
Called by: the `wafer` commands and every service's settings.

InstrumentationError
├── InstrumentationUnavailable   retry: no endpoint answered
│   └── SpoolInUse               another replay sends that spool at this moment
└── InstrumentationRejected      permanent: what was given will never work
    ├── ConfigRejected           a setting is wrong: names the field, the value and the fix
    └── SpoolRejected            a folder is no spool, or not ours
"""


class InstrumentationError(Exception):
    """Instrumentation could not do it."""


class InstrumentationUnavailable(InstrumentationError):  # noqa: N818 - the pair Unavailable/Rejected is named alike in every component
    """No endpoint answered; try again."""


class SpoolInUse(InstrumentationUnavailable):
    """Another replay sends that spool."""


class InstrumentationRejected(InstrumentationError):  # noqa: N818 - as above
    """What was given will never work."""


class ConfigRejected(InstrumentationRejected):
    """A setting is wrong."""


class SpoolRejected(InstrumentationRejected):
    """A folder is no spool, or not ours."""
