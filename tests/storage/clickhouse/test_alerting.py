"""What ClickHouse cannot keep, a PostgreSQL keeps for it."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

pytest.importorskip("clickhouse_connect", reason="the extra clickhouse is not installed")

from tests.storage.contract.alerts import alert
from wafermonitor.storage.command import storage
from wafermonitor.storage.config import Config
from wafermonitor.storage.connect import connect
from wafermonitor.storage.errors import StorageUnavailable
from wafermonitor.storage.watch import AlertQuery, Outcome

pytestmark = [pytest.mark.servers, pytest.mark.postgres, pytest.mark.xdist_group("clickhouse")]


async def test_alerts_of_clickhouse_are_kept_in_the_postgresql_that_is_named(clickhouse, postgres):
    kept = postgres.migrated()
    config = Config.load(dsn=clickhouse.database(), alerting_dsn=kept)
    store = await connect(config, migrate=True, watch=True)
    async with store.watch.lead() as lead:
        await lead.store(Outcome(alerts=[alert()]))
    await store.close()
    alone = await connect(Config.load(dsn=kept))
    assert (await alone.watch.alerts(AlertQuery())).items == [alert()]
    await alone.close()


async def test_who_does_not_ask_for_alerts_needs_no_postgresql(clickhouse):
    config = Config.load(dsn=clickhouse.database(), alerting_dsn="postgresql://wafer@127.0.0.1:1/none")
    store = await connect(config, migrate=True)
    assert store.watch is None
    await store.close()
    with pytest.raises(StorageUnavailable):
        await connect(config, watch=True)
    store = await connect(Config.load(dsn=config.dsn.get_secret_value()), watch=True)
    assert store.watch is None
    await store.close()


def test_an_upgrade_of_clickhouse_upgrades_the_postgresql_beside_it(clickhouse, postgres, monkeypatch):
    kept = postgres.database()
    monkeypatch.setenv("WAFER_STORAGE_DSN", clickhouse.database())
    monkeypatch.setenv("WAFER_ALERTING_DSN", kept)
    done = CliRunner().invoke(storage, ["migrate"])
    assert done.exit_code == 0, done.output
    assert "alerting: upgraded: 0001" in done.output
    assert int(postgres.psql("SELECT count(*) FROM wafer_data.alerting_leader", kept)) == 1
