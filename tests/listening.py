"""Where processes listen, as Linux tells it."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_LISTENS = "0A"


def listening(pids: Iterable[int]) -> dict[int, str]:
    """TCP ports at which the processes listen, and the address of each."""
    found = {}
    for pid in pids:
        with suppress(OSError):  # it has ended
            sockets = {str(f.readlink()) for f in Path(f"/proc/{pid}/fd").iterdir()}
            for name in ("tcp", "tcp6"):
                for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
                    local, state, inode = (line.split()[i] for i in (1, 3, 9))
                    if state == _LISTENS and f"socket:[{inode}]" in sockets:
                        address, port = local.split(":")
                        found[int(port, 16)] = _address(address)
    return found


def _address(text: str) -> str:
    """An address from the words of four bytes in which Linux writes it."""
    words = (int(text[i : i + 8], 16) for i in range(0, len(text), 8))
    address = ipaddress.ip_address(b"".join(w.to_bytes(4, sys.byteorder) for w in words))
    return str(getattr(address, "ipv4_mapped", None) or address)
