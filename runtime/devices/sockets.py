"""What is done to sockets in more places than one."""

from __future__ import annotations

import socket


def address_text(host: str, port: int) -> str:
    """As addresses are written in lines: IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def keep_watch(connection: socket.socket) -> None:
    """Lets the system notice within half a minute that the other side has vanished without a word."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3), (socket.TCP_NODELAY, 1)):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
