"""What goes wrong between the receiver and Kafka. Nobody sends to us here, so these are read in logs and on health pages only.

KafkaError
├── KafkaUnavailable       no broker answers, or they let us in no more: tried again without end
│   └── CommitRefused      the group was shared out anew before the commit; who has the partition now reads it again
└── KafkaRejected          a setting that no retry mends (a file that cannot be read, the extra missing); stops the start
"""

from __future__ import annotations


class KafkaError(Exception):
    """Reading from Kafka failed."""


class KafkaUnavailable(KafkaError):  # noqa: N818 - the pair Unavailable/Rejected is named alike in every component
    """Not now."""


class CommitRefused(KafkaUnavailable):
    """These partitions are no longer ours."""


class KafkaRejected(KafkaError):  # noqa: N818 - as above
    """The same settings will fail again."""
