"""A Redis server of others: its password comes from the environment or a file, its certificate
authority by address.
"""

from __future__ import annotations

import asyncio
import datetime
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from actors.cache import Cache
from actors.redis_server import EmbeddedRedis, new_password
from geoagent_rl.network import free_port


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = EmbeddedRedis(tmp_path_factory.mktemp("redis"), free_port(), new_password())
    server.start()
    yield server
    server.stop()


async def works(url):
    cache = Cache(url)
    try:
        await cache.set_many({"a": b"1"})
        return await cache.get_many(["a"]) == [b"1"]
    finally:
        await cache.close()


@pytest.mark.parametrize("how", ["variable", "file", "wrong", "absent", "in the address"])
def test_where_the_password_comes_from(server, how, tmp_path, monkeypatch):
    head, _, address = server.url.rpartition("@")
    password, bare = head.rpartition(":")[2], f"redis://{address}"
    for name in ("REDIS_PASSWORD", "REDIS_PASSWORD_FILE"):
        monkeypatch.delenv(name, raising=False)
    if how == "variable":
        monkeypatch.setenv("REDIS_PASSWORD", password)
    elif how == "file":
        (tmp_path / "password").write_text(f"{password}\n")
        monkeypatch.setenv("REDIS_PASSWORD_FILE", str(tmp_path / "password"))
    elif how in ("wrong", "in the address"):
        monkeypatch.setenv(
            "REDIS_PASSWORD", "another server's"
        )  # the embedded server's own address comes first
    url = server.url if how == "in the address" else bare
    assert asyncio.run(works(url)) == (how in ("variable", "file", "in the address"))


def certificate(folder, name):
    """A new certificate for localhost that is its own authority: (certificate file, key file)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    crt, pem = folder / f"{name}.crt", folder / f"{name}.key"
    crt.write_bytes(made.public_bytes(Encoding.PEM))
    pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return crt, pem


async def through_tls(server_port, crt, key, url):
    """Whether the cache works at url.format(port) of a TLS end in front of the server."""

    async def pump(source, sink):
        try:
            while data := await source.read(65536):
                sink.write(data)
        finally:
            sink.close()

    async def serve(reader, writer):
        inner = await asyncio.open_connection("127.0.0.1", server_port)
        await asyncio.gather(pump(reader, inner[1]), pump(inner[0], writer), return_exceptions=True)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(crt, key)
    front = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with front:
        return await works(url.format(front.sockets[0].getsockname()[1]))


@pytest.mark.parametrize("authority", ["ours", "another"])
def test_tls_is_used_and_the_server_verified(server, authority, tmp_path, monkeypatch):
    crt, key = certificate(tmp_path, "ours")
    trusted = crt if authority == "ours" else certificate(tmp_path, "another")[0]
    head, _, address = server.url.rpartition("@")
    monkeypatch.setenv("REDIS_PASSWORD", head.rpartition(":")[2])
    url = f"rediss://localhost:{{}}/0?ssl_ca_certs={trusted}"
    port = int(address.split(":")[1].split("/")[0])
    assert asyncio.run(through_tls(port, crt, key, url)) == (authority == "ours")
