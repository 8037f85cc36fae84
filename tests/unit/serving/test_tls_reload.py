"""Certificates that change while the server runs: new connections see the new ones, over gRPC and HTTP."""

import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import grpc
import pytest

from serving.address import Ports, claim
from serving.door.door import Door, TritonAddress
from serving.door.tls import Tls, TlsError, from_options
from tests.support.fake_triton import FakeTriton

HOST = "127.0.0.1"


def make(folder: Path, name: str) -> None:
    """A certificate that signs itself."""
    command = (
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} -addext subjectAltName=IP:{HOST}"
    )
    files = ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.pem")]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("old", "new", "client-old", "client-new"):
        make(tmp_path, name)
    use(tmp_path, "old")
    shutil.copy(tmp_path / "client-old.pem", tmp_path / "ca.pem")
    return tmp_path


def use(folder: Path, name: str) -> None:
    for kind in ("pem", "key"):
        shutil.copy(folder / f"{name}.{kind}", folder / f"server.{kind}")


def over_http(door: Door, trusted: Path, own: Path | None = None) -> bool:
    context = ssl.create_default_context(cafile=trusted)
    if own is not None:
        context.load_cert_chain(own, own.with_suffix(".key"))
    try:
        with (
            socket.create_connection((HOST, door.ports.http), timeout=10) as raw,
            context.wrap_socket(raw, server_hostname=HOST) as wrapped,
        ):
            wrapped.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return wrapped.recv(15).startswith(b"HTTP/1.1 200")
    except (ssl.SSLError, OSError):
        return False


def over_grpc(door: Door, trusted: Path, own: Path | None = None) -> bool:
    pair = (None, None) if own is None else (own.with_suffix(".key").read_bytes(), own.read_bytes())
    credentials = grpc.ssl_channel_credentials(trusted.read_bytes(), *pair)
    with grpc.secure_channel(door.url, credentials, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        try:
            channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=30)
        except grpc.RpcError:
            return False
    return True


WAYS = {"http": over_http, "grpc": over_grpc}


@pytest.mark.parametrize("protocol", WAYS)
def test_a_new_certificate_is_shown_without_a_restart(
    protocol: str, folder: Path, triton: FakeTriton
) -> None:
    reaches = WAYS[protocol]
    tls = Tls(folder / "server.pem", folder / "server.key")
    with Door(TritonAddress(triton.ports, ""), HOST, claim(Ports(0, 0, 0), HOST), tls=tls) as door:
        assert reaches(door, folder / "old.pem")
        use(folder, "new")
        assert reaches(door, folder / "old.pem")
        door.reload()
        assert reaches(door, folder / "new.pem")
        assert not reaches(door, folder / "old.pem")
        shutil.copy(folder / "old.key", folder / "server.key")
        with pytest.raises(TlsError):
            door.reload()
        assert reaches(door, folder / "new.pem")


@pytest.mark.parametrize("protocol", WAYS)
def test_clients_of_another_authority_are_let_in_and_those_of_the_old_one_no_more(
    protocol: str, folder: Path, triton: FakeTriton
) -> None:
    reaches, trusted = WAYS[protocol], folder / "old.pem"
    tls = Tls(folder / "server.pem", folder / "server.key", folder / "ca.pem")
    with Door(TritonAddress(triton.ports, ""), HOST, claim(Ports(0, 0, 0), HOST), tls=tls) as door:
        assert reaches(door, trusted, folder / "client-old.pem")
        assert not reaches(door, trusted, folder / "client-new.pem")
        assert not reaches(door, trusted)
        shutil.copy(folder / "client-new.pem", folder / "ca.pem")
        door.reload()
        assert reaches(door, trusted, folder / "client-new.pem")
        assert not reaches(door, trusted, folder / "client-old.pem")
        assert not reaches(door, trusted)


FILE = Path("file.pem")


@pytest.mark.parametrize(
    "files",
    [(FILE, None, None), (None, FILE, None), (None, None, FILE), (FILE, None, FILE), (None, FILE, FILE)],
)
def test_half_of_the_tls_options_is_an_error(files: tuple[Path | None, Path | None, Path | None]) -> None:
    with pytest.raises(TlsError, match="both --tls-cert and --tls-key"):
        from_options(*files)


def test_tls_options_are_all_or_none_and_the_authority_of_clients() -> None:
    assert from_options(None, None, None) is None
    assert from_options(FILE, FILE, None) == Tls(FILE, FILE)
    assert from_options(FILE, FILE, FILE) == Tls(FILE, FILE, FILE)
