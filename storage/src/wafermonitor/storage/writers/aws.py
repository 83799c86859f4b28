"""What writers to AWS, and to services that speak its protocols, share: settings, clients, what an error means, and a tally.

In: settings, errors of botocore. Out: clients, an `Outcome` for each request. Called by: `s3`, `sqs`, `cloudwatch`, `xray`.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final
from urllib.parse import urlsplit

import boto3
import botocore.config
from botocore.exceptions import BotoCoreError, ClientError

from wafermonitor.instrumentation.environment import EnvironmentConfig, option, positive
from wafermonitor.storage.errors import StorageRejected, StorageUnavailable
from wafermonitor.storage.writers.items import Item, items, judged
from wafermonitor.storage.writers.protocol import Fate, Outcome, Signal

ERRORS: Final = (BotoCoreError, ClientError)
"""What a call to a client raises."""
_REGION: Final = "us-east-1"
_NO_ADDRESS: Final = "{}.endpoint is no address: expected http(s)://host:port"


@dataclass(frozen=True, kw_only=True)
class AwsConfig(EnvironmentConfig):
    """Where the service is and who asks."""

    region: str = option(str, "Region; empty: AWS_REGION, what AWS's own tools are set to, or us-east-1.", default="")
    endpoint: str = option(str, "Address of a service that speaks the same protocol; empty: AWS's own.", default="")
    access_key: str = option(
        str, "Key; empty: as AWS's own tools find theirs (environment, profile, role).", default="", secret=True
    )
    secret_key: str = option(str, "Its secret.", default="", secret=True)
    timeout_s: float = option(positive, "How long to wait for an answer.", default=20.0)


class Clients:
    """Makes one client for each service, when it is first needed. Clients may be used by many threads."""

    def __init__(self, config: AwsConfig) -> None:
        if bool(config.access_key) != bool(config.secret_key):
            raise StorageRejected(f"{config.component}.access_key and {config.component}.secret_key belong together")
        address = urlsplit(config.endpoint)
        if config.endpoint and (address.scheme not in {"http", "https"} or not address.netloc):
            raise StorageRejected(_NO_ADDRESS.format(config.component))
        self._config = config
        self._made: dict[str, Any] = {}
        self._lock = Lock()

    def of(self, service: str) -> Any:
        """boto3's client of `service`. Raises some of ERRORS."""
        with self._lock:
            if service not in self._made:
                self._made[service] = self._make(service)
            return self._made[service]

    def _make(self, service: str) -> Any:
        config = self._config
        session = boto3.session.Session(
            aws_access_key_id=config.access_key or None,
            aws_secret_access_key=config.secret_key or None,
            region_name=config.region or os.environ.get("AWS_REGION") or None,
        )
        behaviour = botocore.config.Config(
            connect_timeout=config.timeout_s,
            read_timeout=config.timeout_s,
            # Whoever called tries again, and keeps the data meanwhile.
            retries={"total_max_attempts": 1},
            # Checksums that older stores refuse are left out.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path" if config.endpoint else "auto"},
        )
        return session.client(
            service,
            region_name=session.region_name or _REGION,
            endpoint_url=config.endpoint or None,
            config=behaviour,
        )

    def close(self) -> None:
        """End the connections."""
        with self._lock:
            for client in self._made.values():
                client.close()
            self._made.clear()


class Tally:
    """What became of each request of a `write`, item by item. What nobody speaks of is accepted."""

    def __init__(self, signal: Signal, requests: Sequence[bytes]) -> None:
        self._signal = signal
        self._requests = requests
        self._whole: dict[int, Outcome] = {}
        self._refused: dict[int, dict[int, str]] = {}

    def items(self) -> Iterator[tuple[int, int, Item]]:
        """Every item, with the place of its request and its own in that. What is no request is rejected."""
        for place, request in enumerate(self._requests):
            try:
                found = items(self._signal, request)
            except StorageRejected as error:
                self.settle(place, Outcome(Fate.REJECTED, str(error)))
                continue
            for position, item in enumerate(found):
                yield place, position, item

    def settle(self, place: int, outcome: Outcome) -> None:
        """A whole request; to be tried again outweighs the rest."""
        if outcome.fate is Fate.RETRY or place not in self._whole:
            self._whole[place] = outcome

    def refuse(self, place: int, position: int, reason: str) -> None:
        """One item, for good."""
        self._refused.setdefault(place, {})[position] = reason

    def outcomes(self) -> list[Outcome]:
        """In the order of the requests."""
        return [self._outcome(place) for place in range(len(self._requests))]

    def _outcome(self, place: int) -> Outcome:
        if place in self._whole:
            return self._whole[place]
        return judged(self._signal, self._requests[place], self._refused.get(place, {}))


def code_of(error: BaseException) -> str:
    """The service's word for it; empty when nobody answered."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def outcome_of(service: str, error: BaseException, final: Collection[str] = ()) -> Outcome:
    """Rejected for the codes in `final`; everything else may pass: a key that is not known, a bucket that is not there."""
    code = code_of(error)
    fate = Fate.REJECTED if code in final else Fate.RETRY
    return Outcome(fate, f"{service} answers {code}" if code else f"{service} does not answer ({type(error).__name__})")


def unavailable(service: str, error: BaseException) -> StorageUnavailable:
    """The same for `check`."""
    return StorageUnavailable(outcome_of(service, error).reason)
