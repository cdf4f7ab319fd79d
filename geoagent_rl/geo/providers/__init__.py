"""The remote geocoders by name. A new one is a file beside these, an entry here, and a section of
its settings in reward.geocoder (config/services.py: url, rate_per_s, daily_budget, and api_key_env
where it needs keys)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from geoagent_rl.config.reward import GeocoderConfig
from geoagent_rl.geo.providers import nominatim, opencage, photon
from geoagent_rl.geo.providers.provider import Provider
from geoagent_rl.secrets import optional_secret
from geoagent_rl.terminal import say
from geoagent_rl.types import UserError

PROVIDERS: dict[str, Provider] = {
    "opencage": opencage.PROVIDER,
    "nominatim": nominatim.PROVIDER,
    "photon": photon.PROVIDER,
}
GAZETTEER = "gazetteer"  # the offline one, which every chain may hold


def provider_names(provider: Any) -> tuple[str, ...]:
    """Return the chain that `reward.geocoder.provider` means: a name, "a,b" or a list. Raises
    UserError.
    """
    given = provider.split(",") if isinstance(provider, str) else provider
    names = tuple(str(name).strip() for name in given)
    known = (GAZETTEER, *PROVIDERS)
    if not names or not set(names) <= set(known) or len(set(names)) < len(names):
        raise UserError(
            f"reward.geocoder.provider must be one or a list of {', '.join(known)}, each once, not {provider!r}"
        )
    return names


def remote_names(config: GeocoderConfig) -> list[str]:
    """Return the remote providers of the configured chain. Raises UserError."""
    return [name for name in provider_names(config.provider) if name != GAZETTEER]


def key_names(config: GeocoderConfig, name: str) -> tuple[str, ...]:
    """Return the environment variables that hold a provider's keys."""
    return tuple(getattr(getattr(config, name), "api_key_env", ()))


def with_keys_there(config: GeocoderConfig, environ: Mapping[str, str]) -> GeocoderConfig:
    """Return the configuration without providers that lack a key, where `without_key` is "skip"; a
    line says so. Raises UserError where none is left."""
    names = provider_names(config.provider)
    lacking = [
        name
        for name in remote_names(config)
        if PROVIDERS[name].needs_key
        and not any(optional_secret(environ, key) for key in key_names(config, name))
    ]
    if config.without_key == "refuse" or not lacking:
        return config
    left = tuple(name for name in names if name not in lacking)
    keys = ", ".join(key for name in lacking for key in key_names(config, name))
    if not left:
        raise UserError(f"{keys} is not set, and reward.geocoder.provider names nothing else")
    say(
        f"places are looked up by {', '.join(left)}, not by {', '.join(lacking)}: {keys} is not set"
    )
    return replace(config, provider=left[0] if len(left) == 1 else left)


def rate_per_s(config: GeocoderConfig, name: str) -> float:
    """Return the requests per second that all of a provider's keys may send together."""
    keys = len(key_names(config, name)) if PROVIDERS[name].needs_key else 1
    return float(getattr(config, name).rate_per_s * keys)
