"""What can go wrong between a browser and the read API.

In: answers of `query.client`, addresses typed by people. Out: these; their text is shown on the page.
Called by: pages, session.

UiError
├── UiUnavailable     retry: the read API does not answer; the page keeps its last content and says since when
└── UiRejected        permanent: this address will never show anything
    ├── RunMissing    no run or span has this id
    └── NotKept       nothing of the kind is kept there: no alert of this id, or no alerting at all
"""


class UiError(Exception):
    """A page could not be made."""


class UiUnavailable(UiError):  # noqa: N818 - the pair Unavailable/Rejected is named alike in every component
    """The read API does not answer; try again."""


class UiRejected(UiError):  # noqa: N818 - as above
    """The read API will never answer this."""


class RunMissing(UiRejected):
    """No run or span has this id."""


class NotKept(UiRejected):
    """The read API keeps nothing of the kind."""
