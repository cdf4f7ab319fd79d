"""Addresses on the command line, through the same chain of geocoders as the rewards; without a
cache.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator

from geoagent_rl.config.reward import GeocoderConfig
from geoagent_rl.geo.chain import Address, Chain
from geoagent_rl.geo.gazetteer import Gazetteer
from geoagent_rl.geo.match import Match
from geoagent_rl.geo.places import split_levels
from geoagent_rl.geo.providers import provider_names
from geoagent_rl.geo.remote import query_text, remotes
from geoagent_rl.types import InfraError, UserError


def lookup(addresses: Iterable[str], provider: str, url: str = "") -> Iterator[Match | None]:
    """Yield a Match or None (no such place) per address, in order, each as soon as it is there.

    `provider` is a name or "a,b"; `url` is the address of its first remote provider. An address
    without ";" is one name. Raises UserError for settings, InfraError when a service fails."""
    names, config = provider_names(provider), GeocoderConfig(provider=provider)
    gazetteer = Gazetteer.open()
    if names == ("gazetteer",):
        yield from map(gazetteer.geocode_text, addresses)
        return
    if url:
        first = next(name for name in names if name != "gazetteer")
        getattr(config, first).url = url
    elif "nominatim" in names:
        raise UserError(
            "give --url of your own Nominatim, or https://nominatim.openstreetmap.org for a few addresses"
        )
    with asyncio.Runner() as runner:
        services = remotes(config, os.environ)

        async def ask(
            name: str, _level: str, asked: list[Address]
        ) -> list[Match | None | InfraError]:
            if name == "gazetteer":
                return [
                    gazetteer.geocode_text(";".join(a) if a[0] or a[1] else a[2]) for a in asked
                ]
            return [await services[name].find(query_text(a)) for a in asked]

        chain = Chain(names, gazetteer, ask)
        try:
            for address in addresses:
                levels = (
                    split_levels(address)
                    if ";" in address or "；" in address
                    else ("", "", address)
                )
                (match,) = runner.run(chain.geocode([levels]))
                if isinstance(match, InfraError):
                    raise match
                yield match
        finally:
            for service in services.values():
                runner.run(service.close())
