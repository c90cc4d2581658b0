"""What a person types for a destination, and what it means in the cluster."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from acns.errors import InputError
from acns.policy import destination
from acns.policy.destination import AtAddress, AtName, AtService, Outside, Target
from acns.policy.model import ICMP, Ports, Protocol, Traffic

from .explain_world import NODE_1, NODE_2, pod, world

TCP, UDP, SCTP = Protocol.TCP, Protocol.UDP, Protocol.SCTP
WORLD = world()
CLIENT = WORLD.pod("client")


def target(text: str) -> Target:
    return destination.parse(text, WORLD, CLIENT).target


@pytest.mark.parametrize(
    ("text", "traffic"),
    [
        ("web-1", None),
        ("web-1:443", Ports(TCP, 443, 443)),
        ("web-1:53/udp", Ports(UDP, 53, 53)),
        ("web-1:53/UDP", Ports(UDP, 53, 53)),
        ("default/web-1:9999/sctp", Ports(SCTP, 9999, 9999)),
        ("web-1:tcp", Ports(TCP, 0, 0)),
        ("web-1:icmp", ICMP(8)),
        ("web-1:icmp-13", ICMP(13)),
        ("service web:80", Ports(TCP, 80, 80)),
    ],
)
def test_what_stands_behind_the_colon_is_the_traffic(text: str, traffic: Traffic) -> None:
    assert destination.parse(text, WORLD, CLIENT).traffic == traffic


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("web-1", "10.244.0.4"),
        ("default/web-2", "10.244.1.4"),
        ("kube-system/dns", "10.244.1.53"),
        ("198.51.100.7", "198.51.100.7"),
        ("host", str(NODE_1)),
        ("n2", str(NODE_2)),
        ("remote-node", str(NODE_2)),
        ("proxy", str(NODE_1)),
    ],
)
def test_pods_nodes_and_addresses_are_found(text: str, address: str) -> None:
    assert target(text) == AtAddress(IPv4Address(address))


@pytest.mark.parametrize(
    "text", ["10.96.0.20", "service web", "service default/web", "svc/web", "service/default/web"]
)
def test_a_service_is_found_by_its_name_and_its_cluster_ip(text: str) -> None:
    found = target(text)
    assert isinstance(found, AtService)
    assert (found.service.key, found.name) == ("default/web", None)


@pytest.mark.parametrize("text", ["web.default.svc.cluster.local", "web.default.svc", "WEB.default.svc."])
def test_a_service_may_be_meant_by_its_dns_name(text: str) -> None:
    found = target(text.lower())
    assert isinstance(found, AtService)
    assert found.name == (b"web", b"default", b"svc", b"cluster", b"local")


def test_other_names_with_a_dot_are_outside() -> None:
    assert target("API.example.com.") == AtName((b"api", b"example", b"com"))
    assert target("world") == Outside()


NAMESAKE = pod("client", "10.244.0.77", namespace="kube-system")
TWO = world(more=(NAMESAKE,))


@pytest.mark.parametrize(("source", "address"), [("kube-system/dns", "10.244.0.77"), ("web-1", "10.244.0.2")])
def test_a_bare_name_means_the_pod_of_the_same_namespace(source: str, address: str) -> None:
    assert destination.parse("client", TWO, TWO.pod(source)).target == AtAddress(IPv4Address(address))


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("web-11", "did you mean 'web-1'?"),
        ("service wob", "did you mean 'default/web'?"),
        ("zz.q.svc", "known here: default/lonely, default/web, kube-system/kube-dns"),
        ("web-1:70000", "1 to 65535; leave it out for all traffic"),
        ("web-1:icmp-256", "0 to 255; echo request is 8"),
        (":443", "write for example api.example.com:443"),
        ("", "write for example api.example.com:443"),
        ("lonely:80", "did you mean 'service default/lonely'?"),
        ("web-1:http", "443, 53/udp, icmp-8; what the name of a port stands for differs from pod to pod"),
    ],
)
def test_what_is_not_there_is_an_error_with_what_is(text: str, hint: str) -> None:
    with pytest.raises(InputError) as raised:
        destination.parse(text, WORLD, CLIENT)
    assert (raised.value.hint, raised.value.exit_code) == (hint, 2)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("127.0.0.1:80", "is the pod itself"),
        ("0.0.0.0:80", "is the pod itself"),
        ("224.0.0.251:5353/udp", "is not one host"),
        ("255.255.255.255:67/udp", "is not one host"),
    ],
)
def test_what_no_policy_is_about_is_said_to_be_that(text: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        destination.parse(text, WORLD, CLIENT)


@pytest.mark.parametrize("name", ["x" * 64 + ".example.com", "x." * 127 + "com"])
def test_a_name_that_no_message_can_hold_is_an_input_error(name: str) -> None:
    with pytest.raises(InputError, match="is not a domain name"):
        destination.parse(f"{name}:443", WORLD, CLIENT)


def test_ipv6_is_said_not_to_be_shown_here() -> None:
    with pytest.raises(InputError, match="IPv4"):
        destination.parse("2001:db8::1", WORLD, CLIENT)


def test_a_pod_called_like_several_is_asked_for_by_its_namespace() -> None:
    with pytest.raises(InputError) as raised:
        TWO.pod("client")
    assert raised.value.hint == "say which: default/client, kube-system/client"


@pytest.mark.parametrize(
    ("name", "why"), [("proxy", "hostNetwork"), ("done", "finished"), ("nobody", "no pod")]
)
def test_pods_that_no_policy_applies_to_cannot_be_the_source(name: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        WORLD.pod(name)


@pytest.mark.parametrize("text", ["443", ":443/tcp", "icmp", "udp"])
def test_traffic_may_stand_alone(text: str) -> None:
    assert destination.traffic(text) is not None


@pytest.mark.parametrize("text", ["web:443", "http", "", "443/icmp"])
def test_what_is_no_traffic_is_an_error(text: str) -> None:
    with pytest.raises(InputError):
        destination.traffic(text)
