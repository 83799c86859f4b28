"""How much a site may send: bytes and items a second, with one burst, and when there is room again.

In: the configured rates, what a site sends. Out: nothing, or Throttled with the time until the site is within its quota.
Called by: `pipeline`. Without a quota nothing is counted.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

from wafermonitor.receiver.errors import Throttled
from wafermonitor.receiver.rate import Rate

BURST_S = 10.0
"""A site that was silent may send what it could have sent in this time at once."""
LONGEST_RETRY_S = 60.0
MAX_SITES = 10_000
"""Names are the senders' own: of more than these the one unused for longest starts anew."""


class _Account:
    """What a site may still send. Debts are allowed: how many items a request has is known only when it is decoded."""

    __slots__ = ("at", "bytes", "items")

    def __init__(self, rate: Rate, now: float) -> None:
        self.at = now
        self.bytes = (rate.bytes_per_s or 0.0) * BURST_S
        self.items = (rate.items_per_s or 0.0) * BURST_S


class Quotas:
    """The accounts of all sites. `of_site` stands before `default`."""

    def __init__(self, default: Rate, of_site: Mapping[str, Rate], clock: Callable[[], float] = time.monotonic) -> None:
        self._default = default
        self._of_site = of_site
        self._clock = clock
        self._accounts: OrderedDict[str, _Account] = OrderedDict()
        self.enabled = bool(of_site) or default != Rate()

    def take(self, site: str, number: int) -> None:
        """Count a request of `number` bytes, or Throttled with the time until the site is out of debt."""
        rate = self._of_site.get(site, self._default)
        account = self._account(site, rate)
        wait_s = 0.0
        if rate.bytes_per_s is not None and account.bytes <= 0:
            wait_s = -account.bytes / rate.bytes_per_s
        if rate.items_per_s is not None and account.items <= 0:
            wait_s = max(wait_s, -account.items / rate.items_per_s)
        if account.bytes < 0 or account.items < 0:
            retry_s = min(max(wait_s, 1.0), LONGEST_RETRY_S)
            raise Throttled("this site sends more than its quota; try again later, or send less", retry_s)
        account.bytes -= number if rate.bytes_per_s is not None else 0

    def charge_items(self, site: str, number: int) -> None:
        """Count the items of a request that has been decoded."""
        rate = self._of_site.get(site, self._default)
        if rate.items_per_s is not None:
            self._account(site, rate).items -= number

    def _account(self, site: str, rate: Rate) -> _Account:
        now = self._clock()
        account = self._accounts.get(site)
        if account is None:
            account = self._accounts[site] = _Account(rate, now)
            if len(self._accounts) > MAX_SITES:
                self._accounts.popitem(last=False)
            return account
        self._accounts.move_to_end(site)
        passed_s = now - account.at
        account.at = now
        if rate.bytes_per_s is not None:
            account.bytes = min(account.bytes + passed_s * rate.bytes_per_s, rate.bytes_per_s * BURST_S)
        if rate.items_per_s is not None:
            account.items = min(account.items + passed_s * rate.items_per_s, rate.items_per_s * BURST_S)
        return account
