"""docs/performance.md is made of benchmarks/results and of nothing else."""

import json

import pytest

from benchmarks import chart, goals, page, results


def test_the_committed_page_is_the_one_that_the_results_make():
    for path, text in page.files(results.read()).items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is old: run `python -m benchmarks --page`"


def test_a_goal_says_whether_it_is_reached():
    goal = goals.Goal("P9", "share", "some", "ratio", least=0.65)
    assert goal.line({"some": {"ratio": 0.7, "ratio_range": [0.66, 0.71]}}).endswith("| ≥ 0.65 | 0.7 (0.66…0.71) | reached |")
    assert goal.line({"some": {"ratio": 0.6}}).endswith("| 0.6 | **missed** |")
    assert "not measured" in goal.line({})
    assert goals.Goal("P9", "lag", "some", "ratio", most=0.6).line({"some": {"ratio": 0.6}}).endswith("| reached |")


def test_results_are_read_as_they_were_saved(tmp_path):
    saved = results.save("p99_made_up", {"figure": 3, "versions": {"peer": "1.0"}}, tmp_path)
    read = results.read(tmp_path)["p99_made_up"]
    assert read == json.loads(saved.read_text())
    assert read["figure"] == 3
    assert read["versions"]["peer"] == "1.0"
    assert read["versions"]["python"]


@pytest.mark.parametrize(("value", "shown"), [(0.6512345, "0.651"), (123_456.7, "123,457"), (1_000, "1,000"), (42.0, "42")])
def test_numbers_are_short(value, shown):
    assert chart.number(value) == shown


def test_a_chart_is_drawn_to_scale():
    svg = chart.bars("Spans & more", [chart.Bar("a<b", 50.0, "ours", (40.0, 60.0)), chart.Bar("c", 100.0, "ceiling")])
    whole = chart.WIDTH - chart.LABEL - chart.VALUE
    assert f'width="{whole:.1f}"' in svg
    assert f'width="{whole / 2:.1f}"' in svg
    assert "Spans &amp; more" in svg
    assert "a&lt;b" in svg
