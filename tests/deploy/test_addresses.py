"""Addresses of services that are started for a while."""

from __future__ import annotations

import socket
import sys
from contextlib import ExitStack
from dataclasses import astuple

import pytest

from wafermonitor.deploy import addresses
from wafermonitor.deploy.errors import DeployRejected
from wafermonitor.deploy.stack import refuse_taken


def test_free_addresses_differ_and_stay_clear_of_outgoing_connections():
    found = astuple(addresses.free_addresses())
    ports = [int(address.rpartition(":")[2]) for address in found]
    assert len(set(ports)) == len(found)
    assert all(port in addresses.SERVICE_PORTS for port in ports)


@pytest.mark.skipif(sys.platform != "linux", reason="names of sockets without a file are Linux's")
def test_of_two_stacks_that_start_at_once_one_is_refused():
    wanted = addresses.free_addresses()
    with ExitStack() as first, ExitStack() as second:
        refuse_taken(wanted, first, collector=False)
        with pytest.raises(DeployRejected, match=f"{wanted.ui} .set WAFER_UI_ADDRESS.*is wafer up running already"):
            refuse_taken(wanted, second, collector=False)
        first.close()
        refuse_taken(wanted, second, collector=False)


def test_a_taken_port_is_not_given(monkeypatch):
    with socket.socket() as taken:
        taken.bind((addresses.LOOPBACK, 0))
        port = taken.getsockname()[1]
        monkeypatch.setattr(addresses, "SERVICE_PORTS", range(port, port + 1))
        with pytest.raises(DeployRejected, match="no free port"):
            addresses.free_addresses()
