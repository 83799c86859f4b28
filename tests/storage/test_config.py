"""Settings of the store: every option, older names, secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from wafermonitor.instrumentation.errors import ConfigRejected
from wafermonitor.storage import config
from wafermonitor.storage.config import Config

DSN = "postgresql://wafer:geheim@db.example:5432/wafer"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WAFER_CONFIG", "WAFER_ALERTING_DSN", "DATABASE_URL", "DB_POOL_MIN_SIZE", "DB_POOL_MAX_SIZE", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in Config.model_fields:
        monkeypatch.delenv(f"WAFER_STORAGE_{name.upper()}", raising=False)
    monkeypatch.chdir(tmp_path)


def test_nothing_set_means_embedded() -> None:
    found = Config.load()
    assert found.dsn is None
    assert found.pg_bin is None
    assert found.data_dir.name == "wafermonitor"


def test_environment_names_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAFER_STORAGE_DSN", DSN)
    dsn = Config.load().dsn
    assert dsn is not None
    assert dsn.get_secret_value() == DSN


def test_older_names_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", DSN)
    monkeypatch.setenv("DB_POOL_MIN_SIZE", "2")
    monkeypatch.setenv("DB_POOL_MAX_SIZE", "3")
    found = Config.load()
    assert found.dsn is not None
    assert (found.pool_min_size, found.pool_max_size) == (2, 3)


def test_our_name_wins_over_the_older_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", DSN)
    monkeypatch.setenv("WAFER_STORAGE_DSN", "memory://")
    dsn = Config.load().dsn
    assert dsn is not None
    assert dsn.get_secret_value() == config.MEMORY


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg2"])
def test_every_way_to_write_postgresql_is_understood(scheme: str) -> None:
    dsn = Config.load(dsn=DSN.replace("postgresql", scheme)).dsn
    assert dsn is not None
    assert dsn.get_secret_value() == DSN


@pytest.mark.parametrize(
    ("dsn", "engine"),
    [
        ("", "timescale"),
        (DSN, "timescale"),
        ("memory://", "memory"),
        ("clickhouse://wafer:geheim@db.example:8123/wafer", "clickhouse"),
        ("clickhouses://db.example/wafer?insert_quorum=auto", "clickhouse"),
        ("chdb:///var/lib/wafer", "clickhouse"),
    ],
)
def test_the_address_names_the_engine(dsn: str, engine: str) -> None:
    found = Config.load(dsn=dsn)
    assert found.engine == engine
    assert found.in_process == dsn.startswith("chdb:")


def test_empty_values_count_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAFER_STORAGE_DSN", "")
    monkeypatch.setenv("WAFER_STORAGE_PG_BIN", "")
    found = Config.load()
    assert found.dsn is None
    assert found.pg_bin is None


def test_unknown_engine_is_refused_without_showing_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAFER_STORAGE_DSN", "mysql://wafer:geheim@db.example/wafer")
    with pytest.raises(ConfigRejected, match="WAFER_STORAGE_DSN") as caught:
        Config.load()
    assert "geheim" not in str(caught.value)


def test_pool_sizes_out_of_order_are_refused() -> None:
    with pytest.raises(ConfigRejected, match="pool_min_size 5 is above pool_max_size 2"):
        Config.load(pool_min_size=5, pool_max_size=2)


def test_shown_options_mask_the_password_and_have_a_description() -> None:
    rows = Config.options(dsn=DSN)
    assert "geheim" not in str(rows)
    assert all(row.doc for row in rows)


def test_data_home_follows_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert config.data_home() == tmp_path / "wafermonitor"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/home/ada")
    assert config.data_home() == Path("/home/ada/.local/share/wafermonitor")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert config.data_home() == Path("/var/lib/wafermonitor")


def test_where_alerts_are_kept_has_the_name_of_its_component_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAFER_ALERTING_DSN", DSN.replace("postgresql", "postgres"))
    found = Config.load().alerting_dsn
    assert found is not None
    assert found.get_secret_value() == DSN
    assert Config.load(alerting_dsn="").alerting_dsn is None
    with pytest.raises(ConfigRejected, match="must start with postgresql://") as caught:
        Config.load(alerting_dsn="clickhouse://wafer:geheim@db.example/wafer")
    assert "geheim" not in str(caught.value)
