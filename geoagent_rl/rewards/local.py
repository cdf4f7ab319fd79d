"""The reward services in this process, offline: the gazetteer and an encoder, nothing cached,
nothing remote.

For `reward explain` and tests; a run asks the same code through actors/reward_worker.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from geoagent_rl.config.reward import RewardConfig
from geoagent_rl.geo.gazetteer import Gazetteer
from geoagent_rl.geo.match import Match
from geoagent_rl.rewards import encoder, names
from geoagent_rl.rewards.encoder import Encoder
from geoagent_rl.rewards.services import Address, LevelPair, Similarity


class LocalPlaces:
    """Geocoder and Semantic of services.py. Always the gazetteer, whatever
    `reward.geocoder.provider` says.
    """

    def __init__(self, gazetteer: Gazetteer, encoder: Encoder, names_first: bool):
        self.gazetteer, self.encoder, self.names_first = gazetteer, encoder, names_first

    @classmethod
    def open(cls, *configs: RewardConfig) -> list[LocalPlaces]:
        """Open one per configuration; they share the gazetteer, and an encoder of the same name is
        loaded once.

        Raises UserError when an encoder cannot be loaded.
        """
        gazetteer = Gazetteer.open()
        encoders = {
            model: encoder.load(model) for model in dict.fromkeys(c.encoder.model for c in configs)
        }
        return [cls(gazetteer, encoders[c.encoder.model], c.semantic.names_first) for c in configs]

    async def geocode(self, addresses: Sequence[Address]) -> list[Match | None]:
        """Return a Match or None (no such place) per address."""
        return [self.gazetteer.geocode(*address) for address in addresses]

    async def similarities(self, pairs: Sequence[LevelPair]) -> list[Similarity]:
        """Return the similarity of each pair of names."""
        return names.similarities(self.gazetteer, self.encoder, pairs, self.names_first)

    async def same_place(self, pairs: Sequence[LevelPair]) -> list[bool]:
        """Say of each pair whether both names mean one place."""
        return names.same_place(self.gazetteer, pairs)
