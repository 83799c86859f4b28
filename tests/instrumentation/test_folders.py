"""Folders by the XDG variables, the system's for root, and an answer even for a user without a home."""

import pytest

from wafermonitor.instrumentation import folders


@pytest.fixture
def user(monkeypatch, tmp_path):
    """An ordinary user whose home is `tmp_path`, without any of the variables."""
    for name in ("XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "WAFER_SPOOL_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(folders.os, "geteuid", lambda: 1000)
    return tmp_path


def test_an_ordinary_users_folders_are_below_the_home(user):
    assert folders.data_home() == user / ".local/share/wafermonitor"
    assert folders.state_home() == user / ".local/state/wafermonitor"
    assert folders.cache_home() == user / ".cache/wafermonitor"
    assert folders.spool_home() == user / ".local/state/wafermonitor/spool"


def test_the_variables_of_xdg_win(user, monkeypatch):
    for name in ("DATA", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", f"/xdg/{name}")
    assert str(folders.data_home()) == "/xdg/DATA/wafermonitor"
    assert str(folders.spool_home()) == "/xdg/STATE/wafermonitor/spool"
    assert str(folders.cache_home()) == "/xdg/CACHE/wafermonitor"


def test_root_has_the_systems_folders_whatever_xdg_says(user, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", "/xdg")
    monkeypatch.setattr(folders.os, "geteuid", lambda: 0)
    assert str(folders.data_home()) == "/var/lib/wafermonitor"
    assert str(folders.spool_home()) == "/var/spool/wafermonitor"


def test_a_named_spool_wins_over_all(user, monkeypatch):
    monkeypatch.setenv("WAFER_SPOOL_DIR", "/data/spool")
    assert str(folders.spool_home()) == "/data/spool"


def test_a_user_without_a_home_loses_no_telemetry_but_the_spool(user, monkeypatch):
    """As in a container that runs under a number nobody gave a name to."""
    monkeypatch.delenv("HOME")

    def nobody(_uid):
        raise KeyError

    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert str(folders.spool_home()) == "/.local/state/wafermonitor/spool"
    assert str(folders.data_home()) == "/.local/share/wafermonitor"
