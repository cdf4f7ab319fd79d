"""The gazetteer on the real data. On a machine that has not packed it yet, the first test does."""

import csv
import statistics
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from geoagent_rl.geo import gazetteer_file
from geoagent_rl.geo.distance import haversine_km
from geoagent_rl.geo.gazetteer import Gazetteer
from geoagent_rl.geo.match import match_to_json
from geoagent_rl.types import InfraError

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def gazetteer():
    gazetteer = Gazetteer.open()
    yield gazetteer
    gazetteer.close()


MUNICH = ("place", "Munich", "Bavaria", "DE")
ADDRESSES = [
    ("Germany; Bayern; München", MUNICH),
    ("Germany; Bavaria; Munich", MUNICH),
    ("Deutschland; Bavière; Munique", MUNICH),
    ("Germany; バイエルン州; ミュンヘン", MUNICH),
    ("München, Bayern, Germany", MUNICH),
    ("Germany, Bayern, München", MUNICH),
    ("Munich, Germany", MUNICH),
    ("München", MUNICH),
    ("Germny; Bavraia; Munich", MUNICH),
    ("Germany; Nirgendland; München", MUNICH),  # an unknown region does no harm
    ("Bayern", ("region", "Bavaria", "Bavaria", "DE")),
    ("日本", ("country", "Japan", "", "JP")),
    ("Deutschland", ("country", "Germany", "", "DE")),
    ("Россия", ("country", "Russia", "", "RU")),
    ("USA", ("country", "United States", "", "US")),
    ("UK", ("country", "United Kingdom", "", "GB")),
    ("Côte d'Ivoire", ("country", "Ivory Coast", "", "CI")),
    ("Korea, South", ("country", "South Korea", "", "KR")),
    ("Notre-Dame, Paris", ("place", "Paris", "Île-de-France", "FR")),
    ("France; Île-de-France; Rue Qwx, Paris", ("place", "Paris", "Île-de-France", "FR")),
    ("United States; MN,Saint Louis County; Duluth", ("place", "Duluth", "Minnesota", "US")),
    (
        "United States; PA, Lackawanna County; ???",
        ("region", "Lackawanna County", "Pennsylvania", "US"),
    ),
    ("China; Tibet, Tingri; unknown", ("region", "Xêgar", "Tibet", "CN")),
    ("Zambia; Lusaka Province;", ("region", "Lusaka Province", "Lusaka Province", "ZM")),
    ("China; Shanxi Sheng; Datong", ("place", "Datong", "Shanxi", "CN")),  # not Shaanxi
    ("中国; 陕西省; 西安市", ("place", "Xi’an", "Shaanxi", "CN")),
    ("日本；東京都；新宿区", ("place", "Shinjuku", "Tokyo", "JP")),
    ("대한민국; 경기도; 수원시", ("place", "Suwon", "Gyeonggi-do", "KR")),
    ("Russia; Московская область; Химки", ("place", "Khimki", "Moscow Oblast", "RU")),
    ("Canada; QC; Montreal", ("place", "Montréal", "Quebec", "CA")),
    ("Australia; NSW; Sydney", ("place", "Sydney", "New South Wales", "AU")),
    (
        "Poland; West Pomeranian Voivodeship; Szczecin",
        ("place", "Szczecin", "West Pomerania", "PL"),
    ),
    ("United Kingdom; Cornwall; Truro", ("place", "Truro", "England", "GB")),
    ("Scotland; Highland; Inverness", ("place", "Inverness", "Scotland", "GB")),
    ("China; Hong Kong; Kowloon", ("place", "Kowloon", "", "HK")),
    ("Hawaii; Oahu; Honolulu", ("place", "Honolulu", "Hawaii", "US")),
    ("Atlanta, Georgia", ("place", "Atlanta", "Georgia", "US")),
    ("Mexico City", ("place", "Mexico City", "Mexico City", "MX")),  # not the country
    ("Paris, TX", ("place", "Paris", "Texas", "US")),
    ("Norway; Hordaland; Syfteland", ("place", "Syfteland", "Vestland", "NO")),
    ("Argentina; Buenos Aires; La Plata", ("place", "La Plata", "Buenos Aires", "AR")),
    (
        "Germany; Brandenburg; Berlin",
        ("place", "Berlin", "State of Berlin", "DE"),
    ),  # just outside, and meant
]
CONTRADICTIONS = [
    ("Germany; ; Paris", ("country", "Germany", "", "DE")),
    ("Germany; Paris;", ("country", "Germany", "", "DE")),
    ("France; Germany; Berlin", ("country", "France", "", "FR")),
    ("Germany; Bayern; Berlin", ("region", "Bavaria", "Bavaria", "DE")),
    ("Germany; Munich; Berlin", ("region", "Munich", "Bavaria", "DE")),
]


@pytest.mark.parametrize(("address", "expected"), ADDRESSES)
def test_addresses_resolve_at_the_level_that_they_name(gazetteer, address, expected):
    match = gazetteer.geocode_text(address)
    assert (match.level, match.name, match.admin1, match.country_code) == expected


@pytest.mark.parametrize(("address", "expected"), CONTRADICTIONS)
def test_a_wider_level_is_never_contradicted(gazetteer, address, expected):
    match = gazetteer.geocode_text(address)
    assert (match.level, match.name, match.admin1, match.country_code) == expected


@pytest.mark.parametrize(
    "address", ["", "???", "unknown; unknown; unknown", ";;", "Qwxzkjv; Qwxzkjv; Qwxzkjv"]
)
def test_what_names_no_place_has_no_match(gazetteer, address):
    assert gazetteer.geocode_text(address) is None
    assert gazetteer.geocode(address) is None or ";" in address


def test_a_runaway_completion_costs_milliseconds(gazetteer):
    started = time.thread_time()
    for junk in ("x" * 100_000, "z, " * 50_000, "Paris, Berlin, " * 10_000, "(;,；" * 50_000):
        gazetteer.geocode(junk, junk, junk)
        gazetteer.geocode_text(junk)
    assert time.thread_time() - started < 2.0  # unbounded, any of these takes seconds


def test_many_processes_that_start_at_once_share_one_build(tmp_path, monkeypatch):
    built = tmp_path / "built"

    def pack(path):
        time.sleep(0.2)  # long enough for the others to arrive
        with built.open("a") as log:
            log.write("x")
        path.write_bytes(b"packed")

    monkeypatch.setattr(gazetteer_file, "pack_in_own_process", pack)
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda _: gazetteer_file.ensure(tmp_path), range(8)))
    assert built.read_text() == "x" and {path.read_bytes() for path in paths} == {b"packed"}
    assert not list(tmp_path.glob("*.part"))


def test_a_failed_build_leaves_nothing_and_says_so(tmp_path, monkeypatch):
    def fail(path):
        path.write_bytes(b"half")
        raise subprocess.CalledProcessError(1, "pack")

    monkeypatch.setattr(gazetteer_file, "pack_in_own_process", fail)
    with pytest.raises(InfraError, match="packing the gazetteer failed"):
        gazetteer_file.ensure(tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".lock"]


def test_the_coarser_level_and_the_ambiguity_are_visible(gazetteer):
    street = gazetteer.geocode("France", "Île-de-France", "12 Rue Qwxzkjv")
    assert street.level == "region" and street.provider == "gazetteer"
    assert (
        gazetteer.geocode("", "", "Paris").runner_up_km > 5_000
    )  # Paris, Texas is a candidate too
    assert gazetteer.geocode("France", "", "Paris").runner_up_km is None


def test_json_has_seven_keys_and_null_for_no_match(gazetteer):
    row = match_to_json(gazetteer.geocode_text("Germany; Bayern; München"))
    assert list(row) == ["lat", "lon", "level", "name", "admin1", "country_code", "provider"]
    assert match_to_json(None) == dict.fromkeys(row) | {"provider": "gazetteer"}


@pytest.mark.parametrize(
    ("level", "a", "b", "context", "same"),
    [
        ("country", "USA", "United States of America", (), True),
        ("country", "Deutschland", "ドイツ", (), True),
        ("country", "Niger", "Nigeria", (), False),
        ("country", "", "", (), False),
        ("country", "unknown", "unknown", (), False),
        ("region", "Bayern", "Bavaria", ("Germany",), True),
        ("region", "MN", "Minnesota", ("United States",), True),
        ("region", "Shanxi", "Shaanxi", ("China",), False),
        ("region", "Moscow", "Moscow Oblast", ("Russia",), False),
        ("region", "Qwx", "Xwq", ("Germany",), False),  # both unknown
        ("place", "München", "Munich", ("Germany", "Bavaria"), True),
        ("place", "Mumbai", "Bombay", ("India",), True),
        ("place", "München", "Nürnberg", ("Germany", "Bavaria"), False),
        ("place", "Qwx", "Xwq", ("Germany", "Bavaria"), False),  # both fall back to Bavaria
    ],
)
def test_same_place(gazetteer, level, a, b, context, same):
    assert gazetteer.same_place(level, a, b, *context) is same
    assert gazetteer.same_place(level, b, a, *context) is same


def test_real_street_view_labels_resolve_to_the_place(gazetteer, shared_data):
    with (shared_data / "osv5m_streetview" / "metadata.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    errors, regions = [], 0
    for row in rows:
        match = gazetteer.geocode(row["country_iso2"], row["region"], row["city"])
        errors.append(haversine_km(match.lat, match.lon, float(row["lat"]), float(row["lon"])))
        area = gazetteer.geocode(row["country_iso2"], row["region"])
        regions += area.level == "region" and area.admin1 == match.admin1 and match.level == "place"
    assert regions == len(rows) == 47
    assert statistics.median(errors) <= 15 and max(errors) <= 200


def test_places_lists_the_world(gazetteer):
    big = list(gazetteer.places(min_population=1_000_000))
    assert 300 < len(big) < 1_000 and big[0].population >= big[-1].population >= 1_000_000
    assert {"Munich", "Berlin"} <= {place.name for place in gazetteer.places("DE", 1_000_000)}
    assert all(
        place.country == "Germany" and -90 <= place.lat <= 90
        for place in gazetteer.places("DE", 1_000_000)
    )
