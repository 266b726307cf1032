"""Ports of the loopback for servers of tests."""

from __future__ import annotations

import secrets
import socket
from contextlib import ExitStack

# Below those that systems give to connections, so that none of these takes a port between its choice and its use.
STARTS = range(21000, 32000, 16)


def free_ports(count: int) -> list[int]:
    """Return ports in a row, all different, that nobody listens at.

    They are held all at once until each is found free, from a start by chance: other test processes choose too.
    """
    first_try = secrets.randbelow(len(STARTS))
    for at in range(len(STARTS)):
        first = STARTS[(first_try + at) % len(STARTS)]
        ports = list(range(first, first + count))
        try:
            with ExitStack() as held:
                for port in ports:
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return ports
        except OSError:
            continue
    raise OSError(f"no {count} free ports in a row")
