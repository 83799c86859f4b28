"""What can be wrong with the words themselves. Constants cannot fail, so only the generator and checker raise these.

In: a registry. Out: these. Called by: `otel-semconv/semconv_check.py`, `otel-semconv/semconv_generate.py`.

SemconvError
└── SemconvRejected   permanent: the registry contradicts itself or OpenTelemetry; names each place
"""


class SemconvError(Exception):
    """The names cannot be used."""


class SemconvRejected(SemconvError):  # noqa: N818 - the pair Unavailable/Rejected is named alike in every component
    """The registry is wrong."""
