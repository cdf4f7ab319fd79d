"""The chain of geocoders: finest level first, providers in order, on only after "no such place",
failures stay.
"""

from __future__ import annotations

import asyncio

import pytest

from geoagent_rl.geo.chain import Chain
from geoagent_rl.geo.gazetteer import Gazetteer
from geoagent_rl.geo.match import Match
from geoagent_rl.geo.providers import provider_names
from geoagent_rl.types import InfraError, UserError

pytestmark = pytest.mark.timeout(300)  # the first test may pack the gazetteer
MUNICH = ("Germany", "Bavaria", "Munich")
UNKNOWN = ("Germany", "Bavaria", "Qzxdorf")


@pytest.fixture(scope="module")
def gazetteer():
    gazetteer = Gazetteer.open()
    yield gazetteer
    gazetteer.close()


class Ask:
    """Providers that know the addresses in `known`: {(provider, address): (level, country code) or
    an InfraError}.
    """

    def __init__(self, gazetteer, known=()):
        self.gazetteer, self.known, self.asked = gazetteer, dict(known), []

    async def __call__(self, provider, level, addresses):
        self.asked += [(provider, level, *filter(None, address)) for address in addresses]
        if provider == "gazetteer":
            return [self.gazetteer.geocode(*address) for address in addresses]
        return [self.answer(provider, address) for address in addresses]

    def answer(self, provider, address):
        found = self.known.get((provider, address))
        if not isinstance(found, tuple):
            return found
        return Match(
            1.0, 2.0, found[0], address[2] or address[1] or address[0], "", found[1], provider
        )


def geocode(names, ask, *addresses):
    return asyncio.run(Chain(names, ask.gazetteer, ask).geocode(addresses))


def test_the_gazetteer_alone_answers_as_it_does_without_a_chain(gazetteer):
    addresses = [
        *(
            MUNICH,
            UNKNOWN,
            ("Germany", "", ""),
            ("", "", "Paris"),
            ("Germany", "", "Bayern"),
            ("Hawaii", "", ""),
        ),
        *(
            ("US", "MN, Saint Louis County", "Duluth"),
            ("Atlantis", "", ""),
            ("", "", ""),
            ("unknown", "???", "-"),
        ),
        *(
            ("France", "Bavaria", "Munich"),
            ("China", "Hong Kong", ""),
            ("日本", "東京都", "渋谷区"),
            ("Japan", "", "Qz"),
        ),
    ]
    assert geocode(["gazetteer"], Ask(gazetteer), *addresses) == [
        gazetteer.geocode(*a) for a in addresses
    ]


def test_an_address_falls_back_from_place_to_region_to_country_and_says_so(gazetteer):
    known = {
        ("photon", MUNICH): ("place", "DE"),
        ("photon", ("Germany", "Bavaria", "")): ("region", "DE"),
        ("photon", ("Germany", "", "")): ("country", "DE"),
    }
    ask = Ask(gazetteer, known)
    found = geocode(
        ["photon"], ask, MUNICH, UNKNOWN, ("Germany", "Qzxland", "Qzxdorf"), ("Qzxistan", "", "")
    )
    assert [match and match.level for match in found] == ["place", "region", "country", None]
    assert {match.provider for match in found if match} == {"photon"}


def test_the_next_provider_is_asked_only_after_no_such_place(gazetteer):
    ask = Ask(gazetteer, {("opencage", UNKNOWN): ("place", "DE")})
    found = geocode(["gazetteer", "opencage"], ask, MUNICH, UNKNOWN)
    assert [(m.provider, m.level) for m in found] == [("gazetteer", "place"), ("opencage", "place")]
    assert [row for row in ask.asked if row[0] == "opencage"] == [("opencage", "place", *UNKNOWN)]
    ask = Ask(gazetteer)
    (found,) = geocode(["opencage", "gazetteer"], ask, MUNICH)
    assert (found.provider, found.level) == ("gazetteer", "place") and ask.asked[0][0] == "opencage"


def test_a_failure_is_the_answer_whoever_might_have_known(gazetteer):
    down = InfraError("down")
    for names, known in [
        (["opencage", "gazetteer"], {("opencage", MUNICH): down}),
        (["photon", "opencage", "gazetteer"], {("opencage", MUNICH): down}),
        (["photon"], {("photon", ("Germany", "Bavaria", "")): down}),
    ]:
        broken, fine = geocode(names, Ask(gazetteer, known), MUNICH, ("Germany", "", ""))
        assert broken is down and not isinstance(fine, InfraError)


def test_namesakes_abroad_are_no_such_place_and_territories_are_not_abroad(gazetteer):
    paris, san_juan = ("France", "", "Paris"), ("United States", "Puerto Rico", "San Juan")
    known = {("photon", paris): ("place", "US"), ("photon", san_juan): ("place", "PR")}
    abroad, own = geocode(["photon"], Ask(gazetteer, known), paris, san_juan)
    assert abroad is None and own.level == "place"
    known = {("photon", ("Puerto Rico", "", "San Juan")): ("place", "US")}
    assert (
        geocode(["photon"], Ask(gazetteer, known), ("Puerto Rico", "", "San Juan"))[0].level
        == "place"
    )


def test_the_level_is_the_addresses_not_the_services(gazetteer):
    """A town found under a region's name matches the region; a region found under a place's name is
    only a region.
    """
    known = {
        ("photon", ("Germany", "Berlin", "")): ("place", "DE"),
        ("photon", ("Germany", "", "Bayern")): ("region", "DE"),
    }
    found = geocode(
        ["photon"], Ask(gazetteer, known), ("Germany", "Berlin", ""), ("Germany", "", "Bayern")
    )
    assert [match.level for match in found] == ["region", "region"]


def test_wrong_chains_are_refused_in_one_line():
    assert provider_names("opencage, gazetteer") == provider_names(["opencage", "gazetteer"])
    for wrong in ("google", "", [], ["gazetteer", "gazetteer"], ["photon", None]):
        with pytest.raises(UserError, match="reward.geocoder.provider"):
            provider_names(wrong)


@pytest.mark.parametrize(
    ("address", "codes"),
    [
        (("Russia", "Crimea", "Simferopol"), ("UA", "RU")),  # as services file it, either way
        (("Ukraine", "Crimea", "Simferopol"), ("UA", "RU")),
        (("Israel", "Golan", "Katzrin"), ("SY", "IL")),
        (("Puerto Rico", "", "Ponce"), ("PR", "US")),
        (("United States", "Puerto Rico", "Ponce"), ("PR", "US")),
        (("Denmark", "Greenland", "Nuuk"), ("GL", "DK")),
        (("Georgia", "Fulton County", "Atlanta"), ("US",)),
        (("Congo", "Haut-Katanga", "Lubumbashi"), ("CD",)),
    ],
)
def test_a_service_may_file_an_address_under_each_state_that_it_may_be_of(
    gazetteer, address, codes
):
    for code in codes:
        ask = Ask(gazetteer, {("opencage", address): ("place", code)})
        (match,) = geocode(["opencage"], ask, address)
        assert (match.country_code, match.level) == (code, "place")
    ask = Ask(gazetteer, {("opencage", address): ("place", "AU")})
    assert geocode(["opencage"], ask, address) == [None]


def test_a_country_that_a_service_takes_for_a_namesake_is_the_country(gazetteer):
    ask = Ask(gazetteer, {("opencage", ("Georgia", "", "")): ("region", "US")})
    found = geocode(["opencage"], ask, ("Georgia", "", ""), ("Georgia", "", "Qzxdorf"))
    assert [(m.country_code, m.level, m.provider) for m in found] == [
        ("GE", "country", "gazetteer")
    ] * 2
