"""What the operator sets of the archive, by the names of today and of the older system."""

from __future__ import annotations

import pytest

from wafermonitor.instrumentation.errors import ConfigRejected
from wafermonitor.storage.archive.config import Config
from wafermonitor.storage.archive.shelf import open_shelf
from wafermonitor.storage.errors import StorageRejected


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch, tmp_path):
    names = [f"WAFER_ARCHIVE_{field.upper()}" for field in Config.model_fields]
    for name in ("WAFER_CONFIG", *names, *(name for names in Config.aliases.values() for name in names)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_days_are_archived_after_72_hours_and_kept_for_10_years():
    config = Config.load()
    assert (config.after_hours, config.hot_hours, config.keep_years, config.interval_hours) == (72, 72, 10, 24)
    assert config.location.endswith("archive")


def test_the_names_of_the_older_system_are_taken_and_todays_win(monkeypatch):
    older = {
        "S3_BUCKET": "wafer-archive",
        "S3_ENDPOINT": "http://minio:9000",
        "S3_ACCESS_KEY": "minioadmin",
        "S3_SECRET_KEY": "minioadmin-secret",
        "ARCHIVE_INTERVAL_HOURS": "12",
    }
    for name, value in older.items():
        monkeypatch.setenv(name, value)
    config = Config.load()
    assert (config.location, config.endpoint, config.interval_hours) == ("s3://wafer-archive", "http://minio:9000", 12)
    assert config.secret == "minioadmin-secret"
    assert "minioadmin" not in repr(config)
    monkeypatch.setenv("WAFER_ARCHIVE_BUCKET", "another/prefix")
    assert Config.load().location == "s3://another/prefix"


def test_the_secret_may_stand_in_a_file(monkeypatch, tmp_path):
    (tmp_path / "secret").write_text("from-a-file\n")
    monkeypatch.setenv("WAFER_ARCHIVE_ACCESS_KEY", "key")
    assert Config.load(secret_key_file=tmp_path / "secret").secret == "from-a-file"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"hot_hours": 24}, "a day is archived first"),
        ({"after_hours": 0}, "archive.after_hours"),
        ({"access_key": "key"}, "belong together"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(flags, words):
    with pytest.raises(ConfigRejected, match=words):
        Config.load(**flags)


def test_an_endpoint_that_is_no_address_is_refused():
    with pytest.raises(StorageRejected, match=r"http\(s\)://host:port"):
        open_shelf(Config.load(bucket="b", endpoint="minio:9000"))
