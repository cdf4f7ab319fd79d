"""Addresses in the configuration, and that it holds no secret: it is written to run directories."""

from __future__ import annotations

import dataclasses
import re
from urllib.parse import SplitResult, parse_qsl, urlsplit

from geoagent_rl.config.describe import flat
from geoagent_rl.config.messages import shown
from geoagent_rl.config.schema import Config
from geoagent_rl.network import service_address
from geoagent_rl.secrets import looks_secret
from geoagent_rl.types import UserError

LOOPBACK = ("localhost", "127.0.0.1", "::1")
# What the address of a Redis server may say after "?"; redis-py takes any argument there, also
# password and ssl_cert_reqs=none.
REDIS_QUERY = ("db", "ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")


def check_no_secrets(config: Config) -> None:
    """Raise UserError for a value that looks like a key or password; it is not repeated."""
    for key, names, usual in (
        (
            "reward.geocoder.opencage.api_key_env",
            config.reward.geocoder.opencage.api_key_env,
            "OPENCAGE_API_KEY",
        ),
        ("judge.endpoint.api_key_env", config.judge.endpoint.api_key_env, "JUDGE_API_KEY"),
    ):
        if not all(re.fullmatch(r"[A-Z_][A-Z0-9_]*", name) for name in names):
            raise UserError(
                f"{key} holds names of environment variables, in upper case, not keys: put the key "
                f"into {usual} or a file that {usual}_FILE names"
            )
    cache = "reward.cache.url"  # says more about it
    for key, value in flat(dataclasses.asdict(config)).items():
        if key != cache and isinstance(value, str) and looks_secret(value):
            raise UserError(
                f"{key} looks like a key or holds a password: secrets are read from environment "
                "variables or files (docs/cluster.md), never from the configuration"
            )


def check_addresses(config: Config) -> None:
    """Raise UserError for an address that is none, or over which a secret would go unencrypted."""
    check_redis(config.reward.cache.url, config.reward.cache.tls)
    opencage = split("reward.geocoder.opencage.url", config.reward.geocoder.opencage.url)
    if opencage.scheme == "http" and opencage.hostname not in LOOPBACK:
        raise UserError(
            "reward.geocoder.opencage.url: the key would go over http:// unencrypted; use https://"
        )
    endpoint = config.judge.endpoint
    if endpoint.url:
        service_address("judge.endpoint.url", endpoint.url, bool(endpoint.api_key_env))


def check_redis(address: str, tls: bool) -> None:
    """Raise UserError for a cache that is no Redis server's address or is not safe to use."""
    if address in ("embedded", "off"):
        return
    url = split("reward.cache.url", address)
    if url.password or url.username:
        raise UserError(
            "reward.cache.url must not contain a password: put it into REDIS_PASSWORD or into a "
            "file that REDIS_PASSWORD_FILE names, on every node"
        )
    wrong = {name for name, _ in parse_qsl(url.query, True)} - set(REDIS_QUERY)
    if wrong:
        raise UserError(
            f'reward.cache.url may have {", ".join(REDIS_QUERY)} after its "?", not '
            f"{', '.join(sorted(wrong))}: a password belongs into REDIS_PASSWORD, and certificates "
            "are always checked"
        )
    if url.scheme not in ("redis", "rediss", "unix"):
        raise UserError(
            f"reward.cache.url={shown(address)} is no address of a Redis server; write embedded, off, "
            "redis://HOST:6379/0 or rediss://HOST:6380/0"
        )
    if url.scheme == "redis" and tls and url.hostname not in LOOPBACK:
        raise UserError(
            f"reward.cache.url: redis:// to {url.hostname} is not encrypted; use rediss://, or set "
            "reward.cache.tls=false where the network is yours alone"
        )


def split(key: str, address: str) -> SplitResult:
    """Return the parts of an address. Raises UserError for one that is none."""
    try:
        url = urlsplit(address)
        _ = url.port  # is read, and refused, only now
    except ValueError as error:
        raise UserError(f"{key} is no address: {error}") from None
    return url
