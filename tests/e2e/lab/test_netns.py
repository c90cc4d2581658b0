"""Namespaces made and entered by threads."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from acns.errors import EnvironmentFault
from lab.kernel import links, netns
from lab.kernel.links import End, Links

MS_SHARED = 1 << 20


def mounts() -> str:
    return Path("/proc/thread-self/mountinfo").read_text()


def test_the_caller_stays_where_it_is() -> None:
    before = os.readlink("/proc/thread-self/ns/net")
    with netns.keeping(netns.make()) as made:
        inside = netns.in_namespace(made, lambda: os.readlink("/proc/thread-self/ns/net"))
    assert inside != before == os.readlink("/proc/thread-self/ns/net")


def test_mounts_inside_do_not_reach_the_machine_even_where_it_shares_mounts() -> None:
    def on_a_machine_with_shared_mounts() -> tuple[str, str]:
        netns.unshare(netns.CLONE_NEWNS)
        netns.mount("none", "/", None, netns.MS_REC | netns.MS_PRIVATE)
        netns.mount("none", "/", None, netns.MS_REC | MS_SHARED)
        seen: list[str] = []

        def prepare() -> None:
            netns.mount("only-inside", "/mnt", "tmpfs")
            seen.append(mounts())

        with netns.keeping(netns.make(prepare)):
            return seen[0], mounts()

    inside, outside = netns.on_thread(on_a_machine_with_shared_mounts)
    assert "only-inside" in inside
    assert "only-inside" not in outside


def test_a_socket_stays_in_the_namespace_it_was_opened_in() -> None:
    with netns.keeping(netns.make()) as made:
        opened = netns.open_socket(made, socket.AF_INET, socket.SOCK_DGRAM)
    with opened:
        assert opened.connect_ex(("198.51.100.1", 53)) == errno.ENETUNREACH


def test_the_error_of_a_function_is_raised_to_the_caller() -> None:
    with netns.keeping(netns.make()) as made, pytest.raises(ZeroDivisionError):
        netns.in_namespace(made, lambda: 1 // 0)


def test_binding_over_a_file_that_is_not_there_says_what_to_do() -> None:
    with pytest.raises(EnvironmentFault, match="no /etc/no-such-file") as caught:
        netns.make(lambda: netns.bind("/etc/hosts", "/etc/no-such-file"))
    assert "touch" in caught.value.hint


def test_both_ends_of_a_veth_appear_in_their_namespaces_with_their_numbers() -> None:
    def names() -> list[tuple[int, str]]:
        return socket.if_nameindex()

    with ExitStack() as stack:
        one, other, third = (stack.enter_context(netns.keeping(netns.make())) for _ in range(3))
        maker = stack.enter_context(Links(third))
        maker.veth(End(one, "veth1", 17), End(other, "eth0", 2))
        assert (17, "veth1") in netns.in_namespace(one, names)
        assert (2, "eth0") in netns.in_namespace(other, names)
        assert not {"veth1", "eth0"} & {name for _, name in netns.in_namespace(third, names)}


def test_an_ipv6_address_is_usable_the_moment_it_is_there() -> None:
    from ipaddress import IPv6Interface

    with netns.keeping(netns.make()) as one, netns.keeping(netns.make()) as other:
        with Links(one) as ours, Links(other) as theirs:
            ours.veth(End(one, "veth1", 17), End(other, "eth0", 2))
            ours.up(17)
            theirs.up(2)
            theirs.addresses(2, [IPv6Interface("2001:db8::1/64")])
        shown = netns.in_namespace(
            other, lambda: subprocess.run(["ip", "-6", "addr"], capture_output=True, text=True).stdout
        )
    line = next(line for line in shown.splitlines() if "2001:db8::1" in line)
    assert "tentative" not in line


def test_a_kernel_parameter_that_does_not_exist_is_named() -> None:
    with pytest.raises(EnvironmentFault, match="no parameter net/ipv4/no_such_thing"):
        links.set_sysctls({"net/ipv4/no_such_thing": 1})
    links.set_sysctls({"net/netfilter/no_such_thing": 1})
