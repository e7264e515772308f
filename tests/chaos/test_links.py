"""What the suite does to connections: told apart from what a server does, which never fails here."""

import socket
import socketserver
import threading
from collections.abc import Iterator

import pytest
from forebay_ops.local.effective import free_ports

from .links import Network


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(1024):
            self.request.sendall(data)


@pytest.fixture
def network() -> Iterator[Network]:
    """One with a link between client and server, and another way to the same server."""
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Echo)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with Network() as network:
        for between, port in zip(("client - server", "other - server"), free_ports(2), strict=True):
            network.lay(between, port, server.server_address[1])
        yield network
    server.shutdown()
    server.server_close()


def _connected(network: Network, between: str = "client - server") -> socket.socket:
    (link,) = network.between(between)
    return socket.create_connection(("127.0.0.1", link.port), timeout=20)


def _says(connection: socket.socket, text: bytes) -> bytes:
    connection.sendall(text)
    return connection.recv(1024)


def test_a_link_that_is_cut_resets_what_is_open_and_refuses_what_is_new(network: Network) -> None:
    (link,) = network.between("client - server")
    with _connected(network) as connection:
        assert _says(connection, b"one") == b"one"
        link.cut()
        with pytest.raises(ConnectionResetError):
            _says(connection, b"two")
    with pytest.raises(ConnectionRefusedError):
        _connected(network)
    link.mend()
    with _connected(network) as connection:
        assert _says(connection, b"three") == b"three"


def test_what_is_sent_through_a_link_that_is_stopped_up_arrives_late(network: Network) -> None:
    (link,) = network.between("client - server")
    with _connected(network) as connection:
        assert _says(connection, b"one") == b"one"
        link.stop_up()
        connection.sendall(b"two")
        with _connected(network) as new:
            new.sendall(b"three")
            for silent in (connection, new):
                silent.settimeout(0.1)
                with pytest.raises(TimeoutError):
                    silent.recv(1024)
                silent.settimeout(20)
            link.mend()
            assert connection.recv(1024) == b"two"
            assert new.recv(1024) == b"three"


def test_the_others_feel_nothing(network: Network) -> None:
    with _connected(network, "other - server") as other:
        for break_it in (network.between("client - server")[0].stop_up, network.between("client - server")[0].cut):
            break_it()
            assert _says(other, b"still") == b"still"
