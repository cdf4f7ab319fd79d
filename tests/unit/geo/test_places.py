import pytest

from geoagent_rl.geo.places import (
    comma_parts,
    core_key,
    is_absent,
    lookup_key,
    normalise,
    split_levels,
)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("  São   Paulo ", "sao paulo"),
        ("Xi’an", "xian"),
        ("Xi'an", "xian"),
        ("Ｔｏｋｙｏ", "tokyo"),
        ("Straße", "strasse"),
        ("Łódź", "lodz"),
        ("İzmir", "izmir"),
        ("Møre og Romsdal", "more og romsdal"),
        ("Saint-Étienne", "saint etienne"),
        ("Việt Nam", "viet nam"),
        ("Αθήνα", "αθηνα"),
        ("Россия", "россия"),
        ("йод", "йод"),  # й is a letter, not an accented и
        ("バイエルン", "バイエルン"),  # バ is not an accented ハ
        ("हिन्दी", "हिन्दी"),
        ("???", ""),
        ("", ""),
    ],
)
def test_spellings_of_a_name_have_one_normal_form(text, normal):
    assert normalise(text) == normal
    assert normalise(normal) == normal


@pytest.mark.parametrize(
    ("text", "core"),
    [
        ("Province of Quezon", "quezon"),
        ("Mintaqat al Bahah", "bahah"),
        ("Tianjin Shi", "tianjin"),
        ("青森県", "青森"),
        ("广西壮族自治区", "广西"),
        ("Московская область", "московская"),
        ("Masovian Voivodeship", "masovian"),
        ("Republic", "republic"),  # never empty
        ("St. Gallen", "saint gallen"),
    ],
)
def test_the_core_of_a_name_has_no_administrative_words(text, core):
    assert core_key(lookup_key(text)) == core


@pytest.mark.parametrize(
    ("address", "levels"),
    [
        ("Germany; Bayern; München", ("Germany", "Bayern", "München")),
        ("日本；東京都；新宿区", ("日本", "東京都", "新宿区")),
        ("Zambia; Lusaka Province;", ("Zambia", "Lusaka Province", "")),
        ("Germany;;München", ("Germany", "", "München")),
        (
            "France; Île-de-France; Paris; Montmartre",
            ("France", "Île-de-France", "Paris, Montmartre"),
        ),
        ("USA; MN,Saint Louis County; Duluth", ("USA", "MN,Saint Louis County", "Duluth")),
        (" Chad ", ("Chad", "", "")),
        ("", ("", "", "")),
    ],
)
def test_an_address_has_three_levels(address, levels):
    assert split_levels(address) == levels


@pytest.mark.parametrize(
    "text", ["", " ", "?", "???", "Unknown", "N/A", "none", "-", "未知", "not specified"]
)
def test_levels_that_say_nothing_are_absent(text):
    assert is_absent(text)


def test_real_names_are_not_absent():
    assert not any(map(is_absent, ["NA", "Nowhere", "Noneville", "日本"]))


def test_parts_of_a_level():
    assert comma_parts("MN,Saint Louis County") == ["MN", "Saint Louis County"]
    assert comma_parts("Notre-Dame (Paris), ???") == ["Notre-Dame", "Paris"]
