"""Secrets come from the environment or from files, and never from the configuration."""

import re

import pytest

from geoagent_rl import config as configuration
from geoagent_rl.config.reward import GeocoderConfig
from geoagent_rl.geo.remote import Remote
from geoagent_rl.secrets import names_a_secret, read_secret
from geoagent_rl.types import UserError
from tests.support.paths import ROOT


def test_a_file_holds_the_value_and_the_variable_itself_comes_first(tmp_path):
    file = tmp_path / "key"
    file.write_text("from-file\n")
    assert read_secret({"A_KEY_FILE": str(file)}, "A_KEY") == "from-file"
    assert read_secret({"A_KEY_FILE": str(file), "A_KEY": " direct "}, "A_KEY") == "direct"
    assert read_secret({}, "A_KEY") == ""


@pytest.mark.parametrize("contents", [None, "", b"\xff\xfe"])
def test_a_file_that_gives_nothing_is_an_error(tmp_path, contents):
    file = tmp_path / "key"
    if contents is not None:
        file.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
    with pytest.raises(UserError, match="A_KEY_FILE"):
        read_secret({"A_KEY_FILE": str(file)}, "A_KEY")


def test_geocoders_take_their_keys_from_files(tmp_path):
    file = tmp_path / "key"
    file.write_text("k" * 32)
    assert Remote("opencage", GeocoderConfig(), {"OPENCAGE_API_KEY_FILE": str(file)})._keys == [
        "k" * 32
    ]
    with pytest.raises(UserError, match="OPENCAGE_API_KEY_FILE"):
        Remote("opencage", GeocoderConfig(), {})


@pytest.mark.parametrize(
    "name",
    [
        "OPENCAGE_API_KEY",
        "OPENCAGE_API_KEY_2",
        "HF_TOKEN",
        "REDIS_PASSWORD",
        "REDIS_URL",
        "aws_secret",
        "AWS_ACCESS_KEY_ID",
        "GITHUB_PAT",
        "RAY_AUTH_TOKEN",
        "SENTRY_DSN",
    ],
)
def test_names_of_secrets_are_known(name):
    assert names_a_secret(name) and not names_a_secret(f"{name}_FILE")


@pytest.mark.parametrize(
    "name", ["PATH", "RAY_AUTH_MODE", "MAX_TOKENS", "TOKENIZERS_PARALLELISM", "PWD", "KEYBOARD"]
)
def test_names_of_other_variables_are_not(name):
    assert not names_a_secret(name)


@pytest.mark.parametrize(
    "value", ["hf_" + "a" * 34, "ghp_" + "A1" * 18, "AKIA" + "A1" * 8, "https://me:pw@host/x"]
)
def test_a_key_anywhere_in_the_configuration_is_refused_without_repeating_it(value):
    with pytest.raises(UserError) as caught:
        configuration.load(None, ["data.manifest=x", f"reward.geocoder.photon.url={value}"])
    assert "reward.geocoder.photon.url" in str(caught.value) and value not in str(caught.value)


@pytest.mark.parametrize(
    "query", ["password=hunter2", "ssl_cert_reqs=none", "ssl_ca_certs=/c&username=hunter2"]
)
def test_the_cache_address_takes_no_password_and_no_unchecked_certificate(query):
    with pytest.raises(UserError, match="reward.cache.url may have db, ssl_ca_certs") as caught:
        configuration.load(None, ["data.manifest=x", f"reward.cache.url=rediss://h:6380/0?{query}"])
    assert "hunter2" not in str(caught.value)


def test_a_key_is_not_sent_unencrypted():
    word = "reward.geocoder.opencage.url=http://"
    with pytest.raises(UserError, match="https://"):
        configuration.load(None, ["data.manifest=x", f"{word}api.opencagedata.com"])
    configuration.load(None, ["data.manifest=x", f"{word}127.0.0.1:8000"])


def test_a_password_in_the_configuration_is_refused_without_repeating_it():
    with pytest.raises(UserError) as caught:
        configuration.load(
            None, ["data.manifest=x", "reward.cache.url=rediss://:hunter2@host:6380/0"]
        )
    assert "REDIS_PASSWORD" in str(caught.value) and "hunter2" not in str(caught.value)


def test_a_key_where_its_name_belongs_is_refused_without_repeating_it():
    key = "0123456789abcdef0123456789abcdef"
    with pytest.raises(UserError) as caught:
        configuration.load(
            None, ["data.manifest=x", f"reward.geocoder.opencage.api_key_env=[{key}]"]
        )
    assert "OPENCAGE_API_KEY" in str(caught.value) and key not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "tls", "allowed"),
    [
        ("redis://10.0.0.5:6379/0", "true", False),
        ("redis://10.0.0.5:6379/0", "false", True),
        ("redis://127.0.0.1:6379/0", "true", True),
        ("rediss://cache.example:6380/0?ssl_ca_certs=/etc/redis/ca.crt", "true", True),
    ],
)
def test_plain_redis_to_other_machines_must_be_chosen(url, tls, allowed):
    words = ["data.manifest=x", f"reward.cache.url={url}", f"reward.cache.tls={tls}"]
    if allowed:
        assert configuration.load(None, words).reward.cache.url == url
    else:
        with pytest.raises(UserError, match="rediss://"):
            configuration.load(None, words)


# What would run code from a file that a user downloaded: nothing of it may appear in the product.
UNSAFE = re.compile(
    r"\bpickle\b|torch\.load\(|yaml\.load\(|allow_pickle|trust_remote_code|(?<![\w.])eval\(|(?<![\w.])exec\(|np\.load\("
)


def test_nothing_unpickles_or_runs_what_a_user_downloads():
    files = [
        f
        for package in ("geoagent_rl", "actors", "cluster")
        for f in (ROOT / package).rglob("*.py")
    ]
    found = [
        f"{f.name}: {line.strip()}"
        for f in files
        for line in f.read_text().splitlines()
        if UNSAFE.search(line)
    ]
    assert len(files) > 50 and not found
