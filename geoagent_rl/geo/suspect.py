"""Coordinates that are probably wrong as a whole: latitude and longitude swapped, or radians taken
for degrees.

Says what it suspects and on what evidence; changes and refuses nothing. Knows where on Earth there
are towns (1-degree cells) and between which latitudes and longitudes each country lies; may know
nothing of files."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files

import numpy as np
from babel import Locale
from numpy.typing import ArrayLike, NDArray

MIN_ROWS = 5  # fewer say nothing about a column
RADIANS_SHARE = 0.9  # of the rows lie where all radians would lie
MARGIN = 0.3  # the other reading must explain this much more of the rows
DEGREE_OF_GRACE = 1.0  # round a country's box


@lru_cache(1)
def _extent() -> tuple[NDArray[np.bool_], dict[str, list[float]]]:
    data = (files("geoagent_rl") / "assets" / "geonames" / "extent.json.gz").read_bytes()
    extent = json.loads(gzip.decompress(data))
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(extent["cells"]), dtype=np.uint8))
    return bits[: 180 * 360].reshape(180, 360).astype(bool), extent["boxes"]


@lru_cache(1)
def _codes() -> dict[str, str]:
    return {
        name.casefold(): code
        for code, name in Locale.parse("en").territories.items()
        if len(code) == 2
    }


def suspicions(
    lats: ArrayLike, lons: ArrayLike, countries: Sequence[str] | None = None
) -> list[str]:
    """Return what is probably wrong with columns of degrees, one sentence with its evidence for
    each suspicion; [] if nothing.

    `countries`, if known, are ISO 3166-1 alpha-2 codes or English names, one per row ("" where
    unknown); they settle cases that the coordinates alone leave open (a swapped Turkey still lies
    on land). NaN rows are left out."""
    lat, lon = (
        np.asarray(lats, dtype=np.float64).ravel(),
        np.asarray(lons, dtype=np.float64).ravel(),
    )
    known = np.isfinite(lat) & np.isfinite(lon)
    if countries is not None:
        countries = [name for name, keep in zip(countries, known, strict=True) if keep]
    lat, lon = lat[known], lon[known]
    found = []
    zeros = int(((lat == 0) & (lon == 0)).sum())
    if zeros:
        found.append(
            f"{zeros} of {len(lat)} rows are at exactly 0, 0, which usually stands for a missing position"
        )
    if len(lat) < MIN_ROWS:
        return found
    if radians := _radians(lat, lon):
        return [*found, radians]
    if swapped := _swapped(lat, lon, countries):
        return [*found, swapped]
    return found


def _radians(lat: NDArray[np.float64], lon: NDArray[np.float64]) -> str:
    inside = (np.abs(lat) <= math.pi / 2) & (np.abs(lon) <= math.pi)
    if inside.mean() < RADIANS_SHARE or np.ptp(lat) + np.ptp(lon) < 1e-3:
        return ""
    land = _on_land(np.degrees(lat[inside]), np.degrees(lon[inside]))
    evidence = f"{int(inside.sum())} of {len(lat)} rows have |lat| <= 1.5708 and |lon| <= 3.1416 (open sea off Ghana)"
    return f"coordinates look like radians: {evidence}; times 180/pi, {land:.0%} of them lie near a town"


def _swapped(
    lat: NDArray[np.float64], lon: NDArray[np.float64], countries: Sequence[str] | None
) -> str:
    beyond = int((np.abs(lat) > 90).sum())
    fits = bool((np.abs(lon) <= 90).all() and (np.abs(lat) <= 180).all())
    if beyond and fits:
        worst = float(lat[np.argmax(np.abs(lat))])
        evidence = (
            f"{beyond} of {len(lat)} latitudes are beyond 90 (up to {worst:g}) and no longitude is"
        )
        return f"latitude and longitude look swapped: {evidence}"
    if countries is not None:
        rows, given, other = _in_country(lat, lon, countries)
        if rows >= MIN_ROWS and given < 0.5 and other > given + MARGIN:
            evidence = f"of {rows} rows with a country, {given:.0%} lie in it as given and {other:.0%} when exchanged"
            return f"latitude and longitude look swapped: {evidence}"
        if rows >= MIN_ROWS:
            return (
                ""
                if given >= 0.5
                else f"only {given:.0%} of {rows} rows lie in the country that they name"
            )
    given, other = _on_land(lat, lon), _on_land(lon, lat)
    if given < 0.6 and other > given + MARGIN:
        evidence = f"{given:.0%} of {len(lat)} rows lie near a town as given and {other:.0%} when exchanged"
        return f"latitude and longitude look swapped: {evidence}"
    return ""


def _on_land(lat: NDArray[np.float64], lon: NDArray[np.float64]) -> float:
    """Share of points in a cell with a town or beside one; a point out of range is in none."""
    cells, _ = _extent()
    valid = (np.abs(lat) <= 90) & (np.abs(lon) <= 180)
    rows = np.clip((lat[valid] + 90).astype(int), 0, 179)
    return float(cells[rows, (lon[valid] + 180).astype(int) % 360].sum() / len(lat))


def _in_country(
    lat: NDArray[np.float64], lon: NDArray[np.float64], countries: Sequence[str]
) -> tuple[int, float, float]:
    """Rows whose country is known, and the shares of them inside its box as given and with lat and
    lon exchanged.
    """
    _, boxes = _extent()
    keys = [_codes().get(name.strip().casefold(), name.strip().upper()) for name in countries]
    rows = [i for i, key in enumerate(keys) if key in boxes]
    if not rows:
        return 0, 0.0, 0.0
    south, north, west, east = np.array([boxes[keys[i]] for i in rows]).T
    grace = DEGREE_OF_GRACE

    def inside(y: NDArray[np.float64], x: NDArray[np.float64]) -> float:
        return float(
            (
                (y >= south - grace)
                & (y <= north + grace)
                & (x >= west - grace)
                & (x <= east + grace)
            ).mean()
        )

    return len(rows), inside(lat[rows], lon[rows]), inside(lon[rows], lat[rows])
