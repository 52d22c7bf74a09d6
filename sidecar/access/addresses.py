"""What an address is called that is a caller's name, whichever server it comes from."""

from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from urllib.parse import unquote

__all__ = ["canonical"]


@lru_cache(maxsize=1024)  # asked for every request, most of them of few machines
def canonical(host: str) -> str:
    """One name for each machine: gRPC has ::1 as %5B::1%5D, and HTTP, where it listens for IPv4 and
    IPv6, 10.0.0.7 as ::ffff:10.0.0.7. What is no IP address stays as it is."""
    try:
        found = ip_address(unquote(host).strip("[]"))
    except ValueError:
        return host
    if isinstance(found, IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    return str(found)
