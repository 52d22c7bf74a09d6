"""Free ports, and a clear word on ports that are taken."""

import socket
from typing import Final

import psutil

from neuralrank.errors import InvalidSettings, Unsupported

__all__ = ["LOOPBACK", "choose_port"]

LOOPBACK: Final = "127.0.0.1"


def choose_port(wanted: int, purpose: str, flag: str) -> int:
    """A port of the loopback address that can be listened on.

    Args:
        wanted: the port, or 0 for any free one.
        purpose: what listens there, for the message.
        flag: the command's flag that sets it, for the message.

    Raises:
        InvalidSettings: not a port number.
        Unsupported: somebody listens there already; the message says who.
    """
    if not 0 <= wanted <= 65_535:
        raise InvalidSettings(f"{flag}: got {wanted}; a port is 1 to 65535, or 0 for any free one.")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do; else a port whose last connections are just closing would look taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, wanted))
        except PermissionError as error:
            raise Unsupported(
                f"Port {wanted} for {purpose} needs more rights than this account has. Choose one "
                f"above 1023: `{flag} PORT`."
            ) from error
        except OSError as error:
            raise Unsupported(
                f"Port {wanted} for {purpose} is in use{_owner(wanted)}. End that, or choose "
                f"another port with `{flag} PORT` (0 takes any free one)."
            ) from error
        port: int = probe.getsockname()[1]
        return port


def _owner(port: int) -> str:
    """Who listens there, as " by NAME (process ID)", as far as this account may see it."""
    try:
        for connection in psutil.net_connections(kind="tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr
            if listens and tuple(connection.laddr)[1] == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    except psutil.Error:
        pass
    return " by another process"
