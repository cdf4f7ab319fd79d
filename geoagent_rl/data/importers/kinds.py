"""What is known of other people's datasets: by which columns one knows them, what these mean, where
they come from.

| kind    | dataset                                  | columns that it is known by            |
|---------|------------------------------------------|----------------------------------------|
| geoseek | GeoSeek-CoT, -Loc, -Val                  | solution, Locatability Score, cot      |
| swift   | ms-swift JSONL                           | messages                               |
| osv5m   | OpenStreetView-5M                        | sub-region, land_cover, drive_side     |
| im2gps  | IM2GPS, IM2GPS3K                         | S3_Label, in a file named im2gps...    |
| mp16    | MP-16, YFCC25600                         | S3_Label, IMG_ID                       |
| geocomp | GeoComp (tuxun)                          | panoId                                 |
| exif    | a folder of photographs with GPS in EXIF | no table at all                        |
| photos  | any other table, see data/photos.py      | coordinates                            |

Column names are compared without case, spaces, hyphens and underscores. Those of GeoSeek and
GeoComp come from the papers' text, not from the files: where they differ, --map says so. May know
nothing of files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from geoagent_rl.data.columns import ALIASES, FINER_PLACE, find_column, fold
from geoagent_rl.types import UserError

ANSWER = "answer"  # "Country; Region; Place" in one column; fills the three
FINER = "finer_place"  # stands in for a blank place
POSITION = "position"  # latitude and longitude in one column
TARGETS = (*ALIASES, ANSWER, FINER, POSITION)  # what --map can name


@dataclass(frozen=True)
class Kind:
    """`aliases` go before the general ones; `source` and `licence` are said of rows that do not say
    theirs.
    """

    name: str
    signature: tuple[str, ...] = ()  # folded column names, any of which reveals it
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    source: str = ""
    licence: str = ""


GENERAL = {
    **ALIASES,
    "image": (*ALIASES["image"], "images", "photo", "picture", "jpg"),
    "place": (*ALIASES["place"], "specificlocation", "preciselocation"),
    "cot": ("cot", "chainofthought", "cottext", "cotjson", "response", "output"),
    "scene": ("scene", "sceneclass", "cls", "s3label", "scene3label0indoor1natural2urban"),
    ANSWER: ("solution", "answer", "finalanswer", "address"),
    FINER: FINER_PLACE,
    POSITION: (
        *("gps", "coordinates", "coordinate", "latlon", "latlng", "position", "geolocation"),
        *("geometry", "geom", "wkt", "point"),
    ),
}
FLICKR = {"uid": ("imgid", "keysha112", "id"), "image": ("imgid", "image", "file", "filename")}
KINDS = (
    Kind("swift", ("messages", "conversations"), {"image": ("images", "image")}),
    Kind("geoseek", ("locatabilityscore", "solution", "cot", "chainofthought"),
         {"uid": ("id", "uid", "imageid")}, "GeoSeek", "see the data set's card"),
    Kind("osv5m", ("subregion", "landcover", "driveside", "uniquecity"), {}, "OSV-5M", "CC BY-SA 4.0"),
    Kind("im2gps", ("s3label", "probindoor"), FLICKR, "IM2GPS", "see each photograph on Flickr"),
    Kind("mp16", ("s3label", "imgid", "probindoor"), FLICKR, "MP-16", "see each photograph on Flickr"),
    Kind("geocomp", ("panoid",), {"uid": ("panoid", "id"), "image": ("image", "images", "file", "filename", "panoid")},
         "GeoComp"),
    Kind("exif"),
    Kind("photos"),
)  # fmt: skip
NAMES = ("auto", *(kind.name for kind in KINDS))
SCENES = {"0": "indoor", "1": "natural", "2": "urban"}  # of S3_Label


def kind_of(name: str, columns: Iterable[str], file_name: str) -> Kind:
    """Return the kind called so; for "auto", the one that the columns and the file's name reveal.
    Raises UserError.
    """
    if name not in NAMES:
        raise UserError(f"no kind of dataset is called {name!r}; there are {', '.join(NAMES)}")
    if name != "auto":
        return next(kind for kind in KINDS if kind.name == name)
    folded = {fold(column) for column in columns}
    for kind in KINDS:
        if folded & set(kind.signature) and (
            kind.name != "im2gps" or "im2gps" in file_name.lower()
        ):
            return kind
    return KINDS[-1]


def columns_of(kind: Kind, columns: Iterable[str], mapping: Mapping[str, str]) -> dict[str, str]:
    """Return {what it means: column} for the columns that are there; `mapping` goes before what is
    known. Raises UserError.
    """
    columns = list(columns)
    for target, column in mapping.items():
        if target not in TARGETS:
            raise UserError(f"--map {target}={column}: {target} is none of {', '.join(TARGETS)}")
        if column not in columns:
            raise UserError(
                f"--map {target}={column}: there is no column {column}; there are {', '.join(columns)}"
            )
    used = {}
    for target in TARGETS:
        aliases = (*kind.aliases.get(target, ()), *GENERAL[target])
        found = mapping.get(target) or find_column(columns, aliases)
        if found:
            used[target] = found
    return used


def read_mapping(items: Iterable[str]) -> dict[str, str]:
    """Turn ["lat=gps_y"] into {"lat": "gps_y"}. Raises UserError."""
    mapping = {}
    for item in items:
        target, equals, column = item.partition("=")
        if not (target and equals and column):
            raise UserError(f"--map {item}: write it as OURS=THEIRS, as in --map lat=gps_latitude")
        mapping[target.strip()] = column.strip()
    return mapping
