"""A SYN put on a pod's wire by hand: to addresses that the pod's own stack would keep to itself."""

from __future__ import annotations

import fcntl
import socket
import struct
from pathlib import Path

PATIENCE_S = 0.5
_SIOCGIFHWADDR = 0x8927
_ETH_P_IP = 0x0800


def answers_to_syn(source: str, address: str, port: int, interface: str = "eth0") -> bool:
    """Whether anything of TCP comes back from `address` for a SYN to it; in the namespace of this thread."""
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_IP)) as wire,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket,
    ):
        wire.bind((interface, _ETH_P_IP))
        wire.settimeout(PATIENCE_S)
        own = fcntl.ioctl(any_socket, _SIOCGIFHWADDR, struct.pack("256s", interface.encode()))[18:24]
        wire.send(_gateway(any_socket) + own + struct.pack("!H", _ETH_P_IP) + _syn(source, address, port))
        try:
            while frame := wire.recv(2048):
                if frame[23] == socket.IPPROTO_TCP and frame[26:30] == socket.inet_aton(address):
                    return True
        except TimeoutError:
            return False
    return False


def _gateway(any_socket: socket.socket) -> bytes:
    """The MAC address of the node's end; asked for where it is not known yet."""
    any_socket.sendto(b"", ("192.0.2.1", 9))
    for _ in range(100):
        for line in Path("/proc/thread-self/net/arp").read_text().splitlines()[1:]:
            mac = line.split()[3]
            if mac != "00:00:00:00:00:00":
                return bytes.fromhex(mac.replace(":", ""))
        any_socket.sendto(b"", ("192.0.2.1", 9))
    raise AssertionError("the gateway does not answer")


def _syn(source: str, destination: str, port: int) -> bytes:
    ends = socket.inet_aton(source) + socket.inet_aton(destination)
    tcp = struct.pack("!HHIIBBHHH", 40_000, port, 1, 0, 0x50, 0x02, 65_535, 0, 0)
    checksum = _checksum(ends + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(tcp)) + tcp)
    tcp = tcp[:16] + struct.pack("!H", checksum) + tcp[18:]
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, socket.IPPROTO_TCP, 0) + ends
    return header[:10] + struct.pack("!H", _checksum(header)) + header[12:] + tcp


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
