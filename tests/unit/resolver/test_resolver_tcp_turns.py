"""What one TCP connection may ask of the loop: a burst at a time, and nothing once it is out of step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from acns.dns import message
from acns.resolver import tcp_clients
from acns.resolver.framing import framed
from acns.resolver.metrics import ResolverMetrics
from acns.resolver.query import Asked
from acns.resolver.settings import ResolverSettings
from acns.resolver.tcp_clients import TCPClient, TCPClients

QUERY = bytes.fromhex("0007 0100 0001 0000 0000 0000 0161 00 0001 0001")


class Cable(asyncio.Transport):
    """A transport that leads nowhere."""

    def __init__(self) -> None:
        super().__init__({"sockname": ("10.96.0.10", 53), "peername": ("10.244.0.2", 4242)})
        self.reading = True
        self.aborted = False

    def is_closing(self) -> bool:
        return self.aborted

    def write(self, data: object) -> None:
        pass

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Connection:
    """A pod's connection; `asked` is what reached the gate, which refuses it all."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.cable = Cable()
        clients = TCPClients(ResolverSettings(), self.receive, ResolverMetrics())
        self.client = TCPClient(clients, ("127.0.0.1", 10053))
        self.client.connection_made(self.cable)

    def receive(self, asked: Asked, forward: object, reply: Callable[[bytes | None], None]) -> None:
        self.asked.append(asked.packet)
        reply(message.reply_with_rcode(asked.packet, 5) if asked.packet == QUERY else None)


async def test_a_thousand_queries_in_one_piece_are_taken_a_burst_at_a_time_and_not_read_past() -> None:
    connection = Connection()
    connection.client.data_received(framed(QUERY) * 1000)
    taken = [len(connection.asked)]
    assert not connection.cable.reading
    while not connection.cable.reading:
        await asyncio.sleep(0)
        taken.append(len(connection.asked))
    assert taken[-1] == 1000
    assert all(after - before <= tcp_clients.BURST for before, after in zip([0, *taken], taken, strict=False))


async def test_a_connection_out_of_step_is_closed_at_its_first_wrong_frame() -> None:
    for wrong in (b"", QUERY[:11], QUERY[:2] + b"\x81" + QUERY[3:]):
        connection = Connection()
        connection.client.data_received(framed(QUERY) + framed(wrong) * 100)
        assert connection.cable.aborted
        await asyncio.sleep(0)
        assert connection.asked == [QUERY, wrong]
