"""A Redis server of others: its password comes from the environment or a file, its certificate authority by address."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from actors.cache import Cache
from actors.redis_server import EmbeddedRedis, free_port, new_password


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
        monkeypatch.setenv("REDIS_PASSWORD", "another server's")  # the embedded server's own address comes first
    url = server.url if how == "in the address" else bare
    assert asyncio.run(works(url)) == (how in ("variable", "file", "in the address"))


def test_tls_verifies_the_server_by_default(monkeypatch):
    monkeypatch.setenv("REDIS_PASSWORD", "secret")
    cache = Cache("rediss://cache.example:6380/0?ssl_ca_certs=/etc/redis/ca.crt")
    made = cache._client.connection_pool.make_connection()
    assert made.password == "secret" and made.ca_certs == "/etc/redis/ca.crt" and made.cert_reqs == ssl.CERT_REQUIRED
