"""What can go wrong when everything is started together.

In: children that do not start, ports that are taken. Out: these, as one clear line. Called by: `wafer up`, `demo` and `doctor`.

DeployError
├── DeployUnavailable     retry: a service did not come up in time, or ended
└── DeployRejected        permanent: a port is taken, a file is missing, an extra is not installed
"""


class DeployError(Exception):
    """The services could not be run together."""


class DeployUnavailable(DeployError):  # noqa: N818 - the pair Unavailable/Rejected is named alike in every component
    """A service did not come up; its last lines are in the text."""


class DeployRejected(DeployError):  # noqa: N818 - as above
    """What was asked for cannot work here."""
