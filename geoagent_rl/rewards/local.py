"""The reward services in this process, offline: the gazetteer and an encoder, nothing cached, nothing remote.

For `reward explain` and tests; a run asks the same code through actors/reward_worker.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from geoagent_rl.config import RewardConfig
from geoagent_rl.geo.gazetteer import Gazetteer, Match
from geoagent_rl.rewards import encoder, names
from geoagent_rl.rewards.services import Address, LevelPair, Similarity


class LocalPlaces:
    """Geocoder and Semantic of services.py. Always the gazetteer, whatever `reward.geocoder.provider` says."""

    def __init__(self, config: RewardConfig):
        """Raises UserError when the encoder cannot be loaded."""
        self.names_first = config.semantic.names_first
        self.gazetteer = Gazetteer.open()
        self.encoder = encoder.load(config.encoder.model)

    async def geocode(self, addresses: Sequence[Address]) -> list[Match | None]:
        return [self.gazetteer.geocode(*address) for address in addresses]

    async def similarities(self, pairs: Sequence[LevelPair]) -> list[Similarity]:
        return names.similarities(self.gazetteer, self.encoder, pairs, self.names_first)

    async def same_place(self, pairs: Sequence[LevelPair]) -> list[bool]:
        return names.same_place(self.gazetteer, pairs)
