"""Zabbix 7.0 or newer: values for trapper items, which `zabbix_template.yaml` and a discovery rule make.

In: OTLP requests. Out: values by Zabbix's sender protocol, each with its time in ns; with an API token also a host and the
template, and the certainty that the values are kept. Called by: `receiver.bridge`, jobs in mode direct.

Shape. A site is a host, called `WAFER_ZABBIX_HOST` with the site in place of {site}. On it:

    wafer.traces, wafer.logs, wafer.metrics    text: a JSON object for each item, the row of `rows` without what is empty
    wafer.job.state["KEY"]       of each job: 1 running, 2 success, 3 skip, 4 cancellation, 5 timeout, 6 failure, 7 error
    wafer.job.progress["KEY"]    percent
    wafer.job.duration["KEY"]    seconds of each run that ended
    wafer.job.sign["KEY"]        when it was last heard of; wafer.job.age["KEY"]: how long ago that is
    wafer.jobs                   the discovery rule: {#NAME} is a job's name, {#KEY} the same as a key can hold it
    wafer.alert["KEY"]           of each alert that was told: 0 over, 1 info, 2 warning, 3 critical; wafer.alerts discovers them

Runs of one job at the same time share its numbers; each has its own records.

Accepted is what Zabbix calls processed. That is in the server's memory for about a second, so a crash of the server (no stop)
may lose it; with WAFER_ZABBIX_API_URL and a token a request is accepted once the database has its records, as the API tells.
Zabbix says how many values it did not take, and not which, so a host without the template, and a job whose items are not made
yet, hold up their requests: tried again, for a new job at most `discovery_s`, after which its records stand alone. Nothing
doubles: a value of the same item, second and nanosecond is kept once. Records above 65,535 bytes are rejected, and times
after January 2038, for which Zabbix has no number.
Source: Zabbix 7.0 manual, "Sender protocol", "Low-level discovery", API methods history.get, configuration.import, host.create.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, ClassVar, Final, NamedTuple, TypeAlias, TypeVar

from zabbix_utils import APIRequestError, ItemValue, Sender, ZabbixAPI
from zabbix_utils.exceptions import ModuleBaseException

from wafermonitor.instrumentation.environment import EnvironmentConfig, option, positive
from wafermonitor.storage.errors import StorageRejected, StorageUnavailable
from wafermonitor.storage.writers import zabbix_values as values
from wafermonitor.storage.writers.items import items, part
from wafermonitor.storage.writers.protocol import ACCEPTED, SIGNALS, Fate, Outcome, Signal
from wafermonitor.storage.writers.zabbix_values import Owner, Value

TEMPLATE: Final = "WaferMonitor"
GROUP: Final = "WaferMonitor"
_PER_PACKET: Final = 1000
_PER_QUESTION: Final = 500
_PAUSE_S: Final = 0.25
_SET_UP_AGAIN_S: Final = 30.0
_API_LEAST_S: Final = 60
"""The import of a template may take long."""
_REMEMBERED: Final = 1000
_MOST_KNOWN: Final = 50_000
_TEXT: Final = "4"
"""history.get's number for text."""
_IMPORTED: Final = ("templates", "items", "discoveryRules", "triggers", "valueMaps")
_T = TypeVar("_T")
_Place: TypeAlias = tuple[str, Owner | None]
"""A host, and what its items were made for; None: its records."""
_log = logging.getLogger(__name__)


def template() -> str:
    """The template that is shipped, as Zabbix imports it."""
    return resources.files(__package__).joinpath("zabbix_template.yaml").read_text(encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class Config(EnvironmentConfig):
    """One Zabbix."""

    component: ClassVar[str] = "zabbix"

    server: str = option(
        str, "host:port of the server or a proxy; of a cluster each node's, by commas.", default="127.0.0.1:10051"
    )
    host: str = option(str, "Name of the host in Zabbix; {site} in it becomes the site.", default="wafermonitor-{site}")
    api_url: str = option(
        str, "Address of the web interface. With it and a token hosts are made, and values looked for once sent.", default=""
    )
    api_token: str = option(
        str, "Token of a user who may read the hosts; of a super admin, to have them made.", default="", secret=True
    )
    discovery_s: float = option(positive, "How long values of a new job wait for Zabbix to make its items.", default=120.0)
    timeout_s: float = option(positive, "How long to wait for an answer.", default=10.0)


class _Read(NamedTuple):
    """A request as values. `digest` names the request; `refused`: positions of items too long for Zabbix."""

    digest: bytes
    records: list[Value]
    signs: list[Value]
    refused: list[int]


class Writer:
    """Sends; a connection for each packet, as the protocol has it."""

    config_type: ClassVar[type[EnvironmentConfig]] = Config
    signals: ClassVar[frozenset[Signal]] = frozenset(SIGNALS)
    port: ClassVar[int] = 14501

    def __init__(self, config: Config) -> None:
        if bool(config.api_url) != bool(config.api_token):
            raise StorageRejected("WAFER_ZABBIX_API_URL and WAFER_ZABBIX_API_TOKEN belong together: set both or none")
        self._config = config
        self._owners = _Owners(config.discovery_s)
        self._stored: OrderedDict[bytes, None] = OrderedDict()
        """Requests whose records are kept, but which wait for the items of a job: Zabbix is slow to pass over what it has."""
        self._api = _Api(config) if config.api_url else None

    def write(self, signal: Signal, requests: Sequence[bytes]) -> Sequence[Outcome]:
        """Send the values of all requests, and answer for each."""
        found: dict[int, _Read] = {}
        outcomes: dict[int, Outcome] = {}
        for at, request in enumerate(requests):
            try:
                found[at] = self._read(signal, request)
            except StorageRejected as error:
                outcomes[at] = Outcome(Fate.REJECTED, str(error))
        try:
            late = self._sent(list(found.values()))
        except StorageUnavailable as error:
            late = dict.fromkeys(_hosts(found.values()), str(error))
        for at, read in found.items():
            reasons = [late[place] for place in _places(read) if place in late]
            if reasons and not any((host, None) in late for host, _ in _places(read)):
                self._remember(read.digest)
            outcomes[at] = Outcome(Fate.RETRY, reasons[0]) if reasons else _kept(signal, requests[at], read)
        return [outcomes[at] for at in range(len(requests))]

    def check(self) -> None:
        """Ask the server whether it listens, and the API who we are."""
        # No such item: the server answers, and keeps nothing.
        self._processed([Value(self._config.host, "wafer.check", "", time.time_ns())])
        if self._api is not None:
            self._api.call("host.get", {"limit": 1, "output": ["hostid"]})

    def close(self) -> None:
        """Nothing stays open."""

    def _read(self, signal: Signal, request: bytes) -> _Read:
        read = _Read(hashlib.sha256(request).digest(), [], [], [])
        for position, item in enumerate(items(signal, request)):
            record = values.record(item, self._config.host)
            if record.clock > values.LATEST_S or len(record.text.encode()) > values.LONGEST_BYTES:
                read.refused.append(position)
            else:
                read.records.append(record)
            read.signs.extend(one for one in values.signs(item, self._config.host) if one.clock <= values.LATEST_S)
        return read

    def _remember(self, digest: bytes) -> None:
        self._stored[digest] = None
        while len(self._stored) > _REMEMBERED:
            self._stored.popitem(last=False)

    def _sent(self, found: Sequence[_Read]) -> dict[_Place, str]:
        """Why something must be tried again, for each place. StorageUnavailable for all."""
        late: dict[_Place, str] = {}
        records = [value for one in found if one.digest not in self._stored for value in one.records]
        records.sort(key=lambda one: one.host)
        for host, group in itertools.groupby(records, key=lambda one: one.host):
            mine = list(group)
            if self._processed(mine) < len(mine):
                late[host, None] = self._unknown(host)
        signs = [one for read in found for one in read.signs if (one.host, None) not in late]
        late |= self._told(signs)
        if self._api is not None:
            taken = [one for one in records if (one.host, None) not in late]
            late |= {(host, None): reason for host, reason in self._api.missing(taken)}
        return late

    def _told(self, signs: Sequence[Value]) -> dict[_Place, str]:
        """Send the numbers of jobs and alerts; of which Zabbix has no items yet, and the requests shall wait."""
        known = [one for one in signs if self._owners.known(one)]
        if self._processed(known) < len(known):
            self._owners.forget(known)  # somebody has deleted items: find out whose
        others: dict[tuple[str, Owner], list[Value]] = {}
        for one in signs:
            if one.owner is not None and not self._owners.known(one):
                others.setdefault((one.host, one.owner), []).append(one)
        late: dict[_Place, str] = {}
        # An alert is named each time: Zabbix removes the items of those that were not for long.
        alerts = [(one.host, one.owner) for one in known if one.owner is not None and one.owner.rule == values.ALERTS]
        self._announce(dict.fromkeys([*others, *alerts]))
        for (host, owner), mine in others.items():
            if self._processed(mine) == len(mine):
                self._owners.learn(host, owner)
            elif self._owners.waits(host, owner):
                late[host, owner] = "Zabbix has not made the items of a new job or alert yet"
        return late

    def _announce(self, owners: Iterable[tuple[str, Owner]]) -> None:
        by_rule: dict[tuple[str, str], list[Owner]] = {}
        for host, owner in owners:
            by_rule.setdefault((host, owner.rule), []).append(owner)
        for (host, rule), mine in by_rule.items():
            self._processed([Value(host, rule, values.discovery(mine), time.time_ns())])

    def _unknown(self, host: str) -> str:
        if self._api is not None:
            self._api.set_up(host)
            return f'Zabbix does not take records of host "{host}" yet: it has just been made, or it is disabled'
        return f'Zabbix has no host "{host}" with the template {TEMPLATE}, or it is disabled: import the template and link it'

    def _processed(self, found: Sequence[Value]) -> int:
        """How many of the values the server took. StorageUnavailable."""
        told = [ItemValue(one.host, one.key, one.text, one.clock, one.ns) for one in found]
        taken = 0
        for packet in _batched(told, _PER_PACKET):
            taken += self._packet(packet)
        return taken

    def _packet(self, packet: Sequence[ItemValue]) -> int:
        held: list[Any] = []

        def wrapped(connection: Any, _: Any) -> Any:
            held.append(connection)
            return connection

        reason = "no server is named"
        for address in self._config.server.split(","):
            name, _, port = address.strip().rpartition(":")
            try:
                sender = Sender(
                    name,
                    int(port),
                    timeout=max(1, round(self._config.timeout_s)),
                    chunk_size=_PER_PACKET,
                    socket_wrapper=wrapped,
                )
                return int(sender.send(list(packet)).processed)
            except (OSError, ValueError, TypeError, AttributeError, ModuleBaseException) as error:
                reason = f"Zabbix does not answer ({type(error).__name__})"
            finally:
                for one in held:
                    one.close()  # the library leaves it open when no answer comes
        raise StorageUnavailable(reason)


class _Owners:
    """Which jobs and alerts have their items, and since when others wait for theirs. Thread-safe."""

    def __init__(self, discovery_s: float) -> None:
        self._discovery_s = discovery_s
        self._known: set[_Place] = set()
        self._since_s: dict[_Place, float] = {}
        self._lock = threading.Lock()

    def known(self, value: Value) -> bool:
        """Whether its owner has items."""
        return (value.host, value.owner) in self._known

    def learn(self, host: str, owner: Owner) -> None:
        """All its values were taken."""
        with self._lock:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known.add((host, owner))
            self._since_s.pop((host, owner), None)

    def forget(self, signs: Iterable[Value]) -> None:
        """Some of their values were not taken."""
        with self._lock:
            self._known -= {(one.host, one.owner) for one in signs}

    def waits(self, host: str, owner: Owner) -> bool:
        """Whether it is worth while to wait for its items; says once when it no longer is."""
        now_s = time.monotonic()
        with self._lock:
            if len(self._since_s) >= _MOST_KNOWN:
                self._since_s.clear()
            since_s = self._since_s.setdefault((host, owner), now_s)
            if now_s - since_s < self._discovery_s:
                return True
            if since_s > 0:
                self._since_s[host, owner] = float("-inf")
                _log.warning("Zabbix makes no items for %r at host %r: only its records are kept", owner.name, host)
            return False


class _Api:
    """Zabbix's web API, for one account. Every method raises StorageUnavailable."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._client: ZabbixAPI | None = None
        self._items: dict[tuple[str, str], str] = {}
        self._set_up_s: dict[str, float] = {}

    def call(self, method: str, params: Mapping[str, Any]) -> Any:
        """The result of one method."""
        try:
            with self._lock:
                if self._client is None:
                    self._client = ZabbixAPI(
                        self._config.api_url,
                        token=self._config.api_token,
                        skip_version_check=True,
                        timeout=max(_API_LEAST_S, round(self._config.timeout_s)),
                    )
            return self._client.send_api_request(method, dict(params))["result"]
        except APIRequestError as error:
            # Its own text has the request in it, and what was sent is nobody's who reads a log.
            raise StorageUnavailable(f"Zabbix's API refuses {method}: {error.data}") from None
        except (OSError, ValueError, TypeError, KeyError, ModuleBaseException) as error:
            raise StorageUnavailable(f"Zabbix's API does not answer ({type(error).__name__})") from None

    def missing(self, records: Sequence[Value]) -> list[tuple[str, str]]:
        """Hosts of which some records are not in the database after the time that is given for it, each with the reason."""
        end_s = time.monotonic() + self._config.timeout_s
        found = []
        for (host, key), group in itertools.groupby(records, key=lambda one: (one.host, one.key)):
            item = self._item(host, key)
            wanted = {(one.clock, one.ns) for one in group}
            while wanted and item:
                for some in _batched(sorted(wanted), _PER_QUESTION):
                    wanted -= self._there(item, some)
                if time.monotonic() > end_s:
                    break
                if wanted:
                    time.sleep(_PAUSE_S)
            if wanted:
                found.append((host, "Zabbix has not stored it yet"))
        return found

    def set_up(self, host: str) -> None:
        """The template and the host, if they are not there. Not again at once: the server reads its settings now and then."""
        now_s = time.monotonic()
        with self._lock:
            if now_s - self._set_up_s.get(host, float("-inf")) < _SET_UP_AGAIN_S:
                return
            self._set_up_s[host] = now_s
        known = self.call("template.get", {"filter": {"host": TEMPLATE}, "output": ["templateid"]})
        if not known:
            rules = {one: {"createMissing": True, "updateExisting": True} for one in _IMPORTED if one != "triggers"}
            rules |= {"template_groups": {"createMissing": True}, "triggers": {"createMissing": True}}
            self.call("configuration.import", {"format": "yaml", "rules": rules, "source": template()})
            known = self.call("template.get", {"filter": {"host": TEMPLATE}, "output": ["templateid"]})
        linked = [{"templateid": known[0]["templateid"]}]
        hosts = self.call("host.get", {"filter": {"host": host}, "output": ["hostid"]})
        if hosts:
            self.call("host.massadd", {"hosts": [{"hostid": hosts[0]["hostid"]}], "templates": linked})
            return
        groups = self.call("hostgroup.get", {"filter": {"name": GROUP}, "output": ["groupid"]})
        group = groups[0]["groupid"] if groups else self.call("hostgroup.create", {"name": GROUP})["groupids"][0]
        self.call("host.create", {"host": host, "groups": [{"groupid": group}], "templates": linked})

    def _item(self, host: str, key: str) -> str:
        if (host, key) not in self._items:
            question = {"output": ["itemid"], "filter": {"key_": key, "host": host}}
            found = self.call("item.get", question)
            if not found:
                return ""
            self._items[host, key] = found[0]["itemid"]
        return self._items[host, key]

    def _there(self, item: str, moments: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
        question = {
            "history": _TEXT,
            "itemids": [item],
            "output": ["clock", "ns"],
            "time_from": moments[0][0],
            "time_till": moments[-1][0],
            "filter": {"ns": [ns for _, ns in moments]},
        }
        return {(int(one["clock"]), int(one["ns"])) for one in self.call("history.get", question)}


def _hosts(found: Iterable[_Read]) -> set[_Place]:
    return {(one.host, None) for read in found for one in (*read.records, *read.signs)}


def _places(read: _Read) -> list[_Place]:
    """Whose state decides about a request: its hosts, its jobs and alerts."""
    return list(
        dict.fromkeys(one for value in (*read.records, *read.signs) for one in ((value.host, None), (value.host, value.owner)))
    )


def _batched(whole: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    return (whole[start : start + size] for start in range(0, len(whole), size))


def _kept(signal: Signal, request: bytes, read: _Read) -> Outcome:
    if not read.refused:
        return ACCEPTED
    refused = frozenset(read.refused)
    reason = f"longer than the {values.LONGEST_BYTES} bytes that Zabbix keeps of a text, or of a time after 2038"
    if not read.records:
        return Outcome(Fate.REJECTED, reason)
    return Outcome(Fate.ACCEPTED, reason, len(refused), part(signal, request, refused.__contains__))
