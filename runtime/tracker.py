"""A tracker that speaks as TVM's does (tvm/rpc/tracker.py), for machines without the packages TVM's needs.

It hands match keys to whoever asks, as TVM's does: it belongs on loopback or on a private network.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
import struct
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tapdot.compiler.errors import DeviceError
from tapdot.runtime.devices.sockets import address_text, keep_watch
from tapdot.runtime.devices.tracker_protocol import MOST_BYTES, TRACKER_MAGIC, TrackerCode

GREETING_SECONDS = 5.0


@dataclass(frozen=True)
class Offer:
    """A device that may be had for one session."""

    peer: Peer
    host: str
    port: int
    match_key: str


@dataclass(eq=False)
class Peer:
    """Whoever holds a connection: a server of a device, a client, or both."""

    writer: asyncio.StreamWriter
    information: dict[str, Any] = field(default_factory=dict)
    offers: dict[str, Offer] = field(default_factory=dict)

    @property
    def host(self) -> str:
        return str(self.writer.get_extra_info("peername")[0])

    def answer(self, value: Any) -> None:
        """Sends an answer; it is of no concern here whether it arrives."""
        text = json.dumps(value).encode()
        self.writer.write(struct.pack("<i", len(text)) + text)


class Tracker:
    """Queues of offers and requests by key: who asks with the highest priority comes first, then who asked first."""

    def __init__(self) -> None:
        self._peers: set[Peer] = set()
        self._free: dict[str, list[Offer]] = defaultdict(list)
        self._waiting: dict[str, list[tuple[int, int, Peer]]] = defaultdict(list)
        self._numbers = itertools.count()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until it ends or says something no tracker understands."""
        peer = Peer(writer)
        self._peers.add(peer)
        try:
            keep_watch(writer.get_extra_info("socket"))
            magic = await asyncio.wait_for(reader.readexactly(4), GREETING_SECONDS)
            if struct.unpack("<i", magic)[0] != TRACKER_MAGIC:
                return
            writer.write(magic)
            while True:
                size = struct.unpack("<i", await reader.readexactly(4))[0]
                if not 0 < size <= MOST_BYTES:
                    return
                self._handle(peer, json.loads(await reader.readexactly(size)))
                await writer.drain()
        except (OSError, EOFError, TimeoutError, ValueError, TypeError, KeyError, IndexError):
            return  # it left, or what it said was no message
        finally:
            self._forget(peer)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def summary(self) -> dict[str, Any]:
        """What TVM's tracker tells: queues by key, and who serves."""
        keys = sorted({*self._free, *self._waiting})
        servers = [peer.information for peer in self._peers if str(peer.information.get("key", "")).startswith("server:")]
        queues = {key: {"free": len(self._free[key]), "pending": len(self._waiting[key])} for key in keys}
        return {"queue_info": queues, "server_info": servers}

    def _handle(self, peer: Peer, message: list[Any]) -> None:
        code = TrackerCode(message[0])
        if code == TrackerCode.PUT:
            key, (port, match_key) = str(message[1]), message[2]
            host = message[3] if len(message) > 3 and message[3] is not None else peer.host
            offer = Offer(peer, str(host), int(port), str(match_key))
            peer.offers[offer.match_key] = offer
            self._free[key].append(offer)
            peer.answer(TrackerCode.SUCCESS)
            self._match(key)
        elif code == TrackerCode.REQUEST:
            key, _user, priority = message[1:4]
            heapq.heappush(self._waiting[str(key)], (-int(priority), next(self._numbers), peer))
            self._match(str(key))
        elif code == TrackerCode.PING:
            peer.answer(TrackerCode.SUCCESS)
        elif code == TrackerCode.GET_PENDING_MATCHKEYS:
            peer.answer(list(peer.offers))
        elif code == TrackerCode.UPDATE_INFO:
            information = dict(message[1])
            if "addr" in information and information["addr"][0] is None:
                information["addr"][0] = peer.host
            peer.information.update(information)
            peer.answer(TrackerCode.SUCCESS)
        elif code == TrackerCode.SUMMARY:
            peer.answer([TrackerCode.SUCCESS, self.summary()])
        else:  # STOP: this one is stopped where it was started
            peer.answer(TrackerCode.FAIL)

    def _match(self, key: str) -> None:
        free, waiting = self._free[key], self._waiting[key]
        while free and waiting:
            _, _, client = heapq.heappop(waiting)
            offer = free.pop(0)
            del offer.peer.offers[offer.match_key]
            client.answer([TrackerCode.SUCCESS, [offer.host, offer.port, offer.match_key]])

    def _forget(self, peer: Peer) -> None:
        """A peer that left takes its offers and its requests along."""
        self._peers.discard(peer)
        for key, offers in self._free.items():
            self._free[key] = [offer for offer in offers if offer.peer is not peer]
        for key, waiting in self._waiting.items():
            self._waiting[key] = [request for request in waiting if request[2] is not peer]
            heapq.heapify(self._waiting[key])


async def track(host: str, port: int, ready: Callable[[str, int], None]) -> None:
    """Runs a tracker until cancelled; ``ready`` is told where it listens. Raises DeviceError for a place that cannot be had."""
    tracker = Tracker()
    try:
        server = await asyncio.start_server(tracker.serve, host, port)
    except OSError as error:
        raise DeviceError(
            f"A tracker cannot listen on {address_text(host, port)} ({error.strerror}). Choose another port."
        ) from error
    async with server:
        ready(*server.sockets[0].getsockname()[:2])
        await server.serve_forever()
