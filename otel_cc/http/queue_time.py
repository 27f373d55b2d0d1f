"""How long a request waited before the application: a proxy in front writes down when the request came to it.

Proxies agree on the names of the header, not on the unit: seconds (nginx), milliseconds (Heroku) and microseconds
(Apache) are told apart by their size.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any

HEADERS = (b"x-request-start", b"x-queue-start")

# Proxies give a request up before that many seconds (30 to 60 by default), and its client does: what is longer is the
# time of a clock that is wrong, or of somebody who makes it up.
LONGEST = 60.0

_TIME = re.compile(rb"\s*(?:t=)?(\d{9,19}(?:\.\d{1,9})?)\s*")
# The first of these that is larger than the number has its unit: each covers the years 2001 to 5138.
_UNITS = ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6), (1e20, 1e9))


def waited(value: bytes, now: float) -> float | None:
    """Seconds since the time in a header, at least 0; None where it cannot be read or cannot be true.

    :param value: ``t=1700000000.123``, with or without ``t=``, in s, ms, us or ns since 1970
    :param now: seconds since 1970
    """
    found = _TIME.fullmatch(value) if len(value) <= 40 else None
    if found is None:
        return None
    number = float(found[1])
    seconds = now - number / next(scale for limit, scale in _UNITS if number < limit)
    # The clocks of two machines differ a little.
    return max(0.0, seconds) if abs(seconds) <= LONGEST else None


def from_proxy(scope: Any) -> bool:
    """Whether a proxy may have written the header: the peer is on this machine or in a private network.

    :param scope: the ASGI scope
    """
    client, server = scope.get("client"), scope.get("server")
    if not client:
        # A Unix socket, which has a path and no port: whoever reaches it is on this machine.
        return bool(server) and server[1] is None
    if client[1] == 0:
        # No connection comes from this port: the server has put what X-Forwarded-For says in the place of a proxy that
        # it was told to trust (uvicorn's --forwarded-allow-ips).
        return True
    try:
        address = ipaddress.ip_address(client[0])
    except ValueError:
        return False
    return not (getattr(address, "ipv4_mapped", None) or address).is_global
