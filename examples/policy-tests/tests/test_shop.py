"""What the shop's policy is for, and what it must not let pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lab.fixtures.pods import Pods
    from lab.fixtures.taps import Taps

pytestmark = pytest.mark.topology("shop.yaml")


def test_the_shop_reaches_its_payment_service(pods: Pods) -> None:
    assert pods["shop"].connect("pay.example.com", 443).ok


def test_on_the_https_port_only(pods: Pods) -> None:
    assert pods["shop"].connect("pay.example.com", 80).outcome == "blocked"


def test_other_names_are_refused(pods: Pods) -> None:
    assert pods["shop"].resolve("www.example.com").rcode == "REFUSED"
    assert pods["admin"].resolve("www.example.com").addresses == ("198.51.100.20",)


def test_their_addresses_are_closed_to_it(pods: Pods, taps: Taps) -> None:
    cable = taps("shop")
    assert pods["shop"].connect("198.51.100.20", 443).outcome == "blocked"
    cable.expect("tcp", destination="198.51.100.20", port=443, outgoing=True)
    assert not cable.seen("tcp", source="198.51.100.20")


def test_a_real_client_may_too(pods: Pods) -> None:
    done = pods["shop"].run(["curl", "-sS", "https://pay.example.com/"])
    assert "server: 198.51.100.10:443" in done.stdout, done.stderr
