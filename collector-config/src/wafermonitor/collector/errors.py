"""What can go wrong with a Collector.

In: settings, YAML files, binaries, processes. Out: these, as one message on the command line. Called by: this component.

CollectorError
├── CollectorUnavailable    retry: it did not start, does not answer, or its queue folder is in use
└── CollectorRejected       permanent: what was given will never work
    ├── ConfigRejected      a setting or a YAML file is wrong: names it and the fix
    ├── BinaryRejected      there is no Collector that fits, and none can be built here
    └── BuildRejected       the build failed; carries the builder's own last lines
"""

from wafermonitor.instrumentation.errors import ConfigRejected as InstrumentationConfigRejected


class CollectorError(Exception):
    """The Collector cannot do it."""


class CollectorUnavailable(CollectorError):  # noqa: N818 - the pair Unavailable/Rejected is named alike in every component
    """Try again later."""


class CollectorRejected(CollectorError):  # noqa: N818 - as above
    """What was given will never work."""


class ConfigRejected(CollectorRejected, InstrumentationConfigRejected):
    """A setting or a YAML file is wrong; `wafer config show` knows it by its second base."""


class BinaryRejected(CollectorRejected):
    """There is no Collector that fits."""


class BuildRejected(CollectorRejected):
    """The build failed."""
