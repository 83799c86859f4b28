"""Which database this is, told by its catalog."""

from __future__ import annotations

import os

import pytest

from wafermonitor.storage.errors import StorageRejected
from wafermonitor.storage.timescale import tier
from wafermonitor.storage.timescale.session import open_session

pytestmark = pytest.mark.postgres
KIND = os.environ.get("WAFER_TEST_STORE", "plain")


async def test_a_database_is_what_its_catalog_says(postgres, dsn):
    async with open_session(dsn) as connection:
        found = await tier.facts(connection)
        assert (found.tier, await connection.fetchval("SELECT wafer_data.tier()")) == (KIND, KIND)
        assert (found.version is None) == (KIND == "plain")
        assert await tier.native(connection) == (("span", "metric_point", "log_record") if KIND == "plain" else ())
    async with open_session(postgres.database()) as empty:
        # Without the extension it is plain, whatever the server could do.
        found = await tier.facts(empty)
        assert found.tier is tier.Tier.PLAIN
        assert (found.available is not None, found.preloaded) == (KIND != "plain", KIND != "plain")


async def test_an_extension_that_is_too_old_is_refused(dsn, monkeypatch):
    monkeypatch.setattr(tier, "OLDEST_EXTENSION", (99, 0))
    async with open_session(dsn) as connection:
        if KIND == "plain":
            assert await tier.detect(connection) is tier.Tier.PLAIN
            return
        with pytest.raises(StorageRejected, match=r"99\.0 or newer is needed"):
            await tier.detect(connection)
