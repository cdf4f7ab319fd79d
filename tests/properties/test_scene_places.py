"""The scenes' places are real: the gazetteer finds each of them by its three names, where the table
says it is.
"""

from geoagent_rl.geo.distance import haversine_km
from geoagent_rl.geo.gazetteer import Gazetteer
from geoagent_rl.tiny.scene_world import places


def test_every_scene_place_geocodes_to_itself():
    gazetteer = Gazetteer.open()
    for place in places() + places(hidden=True):
        town = gazetteer.geocode(place.country, place.region, place.name)
        region = gazetteer.geocode(place.country, place.region)
        assert town.level == "place" and region.level == "region"
        assert (town.country_code, town.admin1) == (region.country_code, region.admin1)
        assert haversine_km(town.lat, town.lon, place.lat, place.lon) < 1, place.levels
