"""Addresses of services that are started for a while."""

from __future__ import annotations

import socket
from dataclasses import astuple

import pytest

from wafermonitor.deploy import addresses
from wafermonitor.deploy.errors import DeployRejected


def test_free_addresses_differ_and_stay_clear_of_outgoing_connections():
    found = astuple(addresses.free_addresses())
    ports = [int(address.rpartition(":")[2]) for address in found]
    assert len(set(ports)) == len(found)
    assert all(port in addresses.SERVICE_PORTS for port in ports)


def test_a_taken_port_is_not_given(monkeypatch):
    with socket.socket() as taken:
        taken.bind((addresses.LOOPBACK, 0))
        port = taken.getsockname()[1]
        monkeypatch.setattr(addresses, "SERVICE_PORTS", range(port, port + 1))
        with pytest.raises(DeployRejected, match="no free port"):
            addresses.free_addresses()
