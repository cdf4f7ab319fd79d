"""Ports of this machine: the listener of each server of ours, and free ports for other servers; and
the addresses of services elsewhere."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import SplitResult, urlsplit

from geoagent_rl.types import UserError

LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")  # as browsers name this machine


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket (port 0: any free one), before anything slow is loaded: a port that
    is taken shows at once. Raises UserError for that, and for an address that is not this
    machine's.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(128)
        except BaseException:
            listener.close()
            raise
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"cannot listen on {host}:{port}: {reason}; give another --port (0: any free) or --host"
        ) from None
    return listener


def url_of(host: str, listener: socket.socket) -> str:
    """Return the address of a listener's server as a browser takes it."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach what listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def service_address(key: str, url: str, secret: bool) -> SplitResult:
    """Return the parts of a service's address, given under `key`.

    secret: a key is sent there. Raises UserError for what is no address, and for one over which a
    key would go unencrypted."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # is read, and refused, only now
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
        raise UserError(
            f"{key}: {url!r} is no address of a service; write https://host or http://host:port"
        )
    if secret and parts.scheme == "http" and not is_loopback(parts.hostname):
        raise UserError(f"{key}: the API key would be readable on its way to {url}; write https://")
    return parts


def hosts_answered(host: str) -> tuple[str, ...]:
    """Return the Host headers that a server without a login answers: on loopback only this
    machine's names, so that no web page elsewhere can talk to it through a browser.
    """
    return LOOPBACK if is_loopback(host) else ("*",)


def takes_connections(host: str, port: int, seconds: float) -> bool:
    """Return whether something listens at an address, as far as can be told in so many seconds."""
    try:
        socket.create_connection((host, port), seconds).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
