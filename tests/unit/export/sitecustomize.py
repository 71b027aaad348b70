"""Python imports this module by its name at its start: all connections and look-ups of names fail, and are noted.

It acts in the process that a test starts and in all Python processes that this one starts.
"""

import os
import socket
import sys

_NOTES = os.environ.get("VOVNET_TEST_CONNECTIONS")
_LOOK_UPS = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo")
_CONNECTIONS = ("socket.connect", "socket.sendto", "socket.sendmsg")


def _refuse(event: str, arguments: tuple) -> None:
    if event == "socket.__new__":
        refused = arguments[1] in (socket.AF_INET, socket.AF_INET6)
    else:
        refused = event in _LOOK_UPS or (event in _CONNECTIONS and arguments[0].family != socket.AF_UNIX)
    if refused:
        with open(_NOTES, "a") as notes:
            notes.write(f"{event} {arguments[1:] if event in _CONNECTIONS else arguments}\n")
        raise OSError(f"no connections in this test, and {event} was called")


if _NOTES:
    sys.addaudithook(_refuse)
