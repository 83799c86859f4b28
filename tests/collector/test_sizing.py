"""Hours and bytes of queues."""

import pytest

from wafermonitor.collector import fragments, sizing
from wafermonitor.collector.config import Config


@pytest.mark.parametrize(("text", "expected"), [("24h", 86400), ("90m", 5400), ("1.5d", 129600), ("45s", 45)])
def test_a_duration_is_a_number_and_a_unit(text, expected):
    assert sizing.seconds(text) == expected


@pytest.mark.parametrize("text", ["24", "h", "0h", "-1h", "1w", ""])
def test_anything_else_is_no_duration(text):
    with pytest.raises(ValueError, match="as 24h"):
        sizing.seconds(text)


def test_a_day_at_14_items_a_second_is_a_gigabyte():
    assert sizing.needed(86400, 14) == 967_680_000
    assert sizing.hours(967_680_000, 14) == pytest.approx(24)


def test_a_plan_counts_the_queues_of_the_files_and_looks_at_the_disk(tmp_path):
    config = Config.load({"WAFER_COLLECTOR_QUEUE_DIR": str(tmp_path / "not" / "yet")}, backends=("managed", "file"))
    plan = sizing.plan(config, fragments.choose(config), 3600, 1000)
    assert plan.queue_bytes == 2_880_000_000
    assert plan.queues == 6  # two exporters, three signals
    assert str(plan).startswith(
        "each queue holds 2.9 GB: 1 h at 1000 items/s of 800 B; 6 queues, together 17.3 GB; the disk has "
    )
    assert plan._replace(free_bytes=18 * 10**9).fits
    assert not plan._replace(free_bytes=17 * 10**9).fits
    assert "NOT ENOUGH" in str(plan._replace(free_bytes=17 * 10**9))
