"""The paper's de-biased sampling (Eq. 11-12): how many samples each country gets, and from which
1-degree cells.

Eq. 11: country i gets M (0.5 R_i / sum R + 0.2 P_i / sum P + 0.3 A_i / sum A) of M samples (roads,
population, land area; sums over the countries not excluded; what is not known counts 0). Eq. 12:
within a country a cell c of 1 x 1 degree is drawn with p_c ~ log(1 + P_c), P_c its population. The
paper leaves open, and this decides: counts are whole by largest remainder; a minimum per country;
what a country's pool lacks goes to the others in their proportions; a cell that is used up drops
out; cells without population come last, equally likely. Pure: knows counts, no files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geoagent_rl.geo.countries import Country
from geoagent_rl.types import UserError

ROADS, POPULATION, LAND = 0.5, 0.2, 0.3  # weights of Eq. 11
CELLS = 180 * 360


def shares(table: Mapping[str, Country], exclude: Iterable[str] = ()) -> dict[str, float]:
    """Return Eq. 11 divided by M, by ISO code; sums to 1 (less where a whole column is unknown).
    Raises UserError."""
    excluded = set(exclude)
    if unknown := excluded - set(table):
        raise UserError(
            f"--exclude {', '.join(sorted(unknown))}: give ISO codes of two letters, as in AQ"
        )
    rows = [country for code, country in table.items() if code not in excluded]
    if not rows:
        raise UserError("every country is excluded")
    columns = ((ROADS, "roads_km"), (POPULATION, "population"), (LAND, "land_km2"))
    total = np.zeros(len(rows))
    for weight, name in columns:
        known = np.array([getattr(row, name) or 0.0 for row in rows], dtype=np.float64)
        total += weight * known / (known.sum() or 1.0)
    return {row.iso2: float(share) for row, share in zip(rows, total, strict=True)}


def apportion(
    total: int, weights: NDArray[Any], low: NDArray[Any], high: NDArray[Any]
) -> NDArray[np.int64]:
    """Return `total` in whole numbers, in proportion to `weights` within low <= count <= high, by
    largest remainder.

    Ties go to the first. Fewer than `total` where `high` has no room. Raises UserError where `low`
    asks for more."""
    weights, low, high = (np.asarray(x, dtype=np.float64) for x in (weights, low, high))
    high = np.where(
        weights > 0, high, np.minimum(low, high)
    )  # without a weight there is no proportion
    low = np.minimum(low, high)
    if low.sum() > total:
        raise UserError(
            f"the minimum per country takes {low.sum():.0f} samples, more than the {total} to be drawn"
        )
    total = int(min(total, high.sum()))
    exact, fixed = low.copy(), weights <= 0
    while not fixed.all():
        free = ~fixed
        share = (total - exact[fixed].sum()) * weights[free] / weights[free].sum()
        below, above = np.maximum(low[free] - share, 0), np.maximum(share - high[free], 0)
        exact[free] = np.clip(share, low[free], high[free])
        if not below.sum() and not above.sum():
            break
        # Those on the side that is off by more stay at their bound; the rest is shared out anew.
        fixed[np.flatnonzero(free)[(below if below.sum() >= above.sum() else above) > 0]] = True
    counts: NDArray[np.int64] = np.floor(exact + 1e-9).astype(np.int64)
    remainder = np.where(counts < high, exact - counts, -1.0)
    order = np.argsort(-np.round(remainder, 9), kind="stable")
    counts[order[: total - counts.sum()]] += 1
    return counts


@dataclass(frozen=True)
class Quotas:
    """Per country, in the order of `codes`."""

    codes: tuple[str, ...]
    share: NDArray[np.float64]  # of Eq. 11
    requested: NDArray[
        np.int64
    ]  # Eq. 11 in whole numbers, with the minimum, whatever the pool holds
    available: NDArray[np.int64]  # rows of the pool
    drawn: NDArray[np.int64]


def quotas(
    n: int,
    share: Mapping[str, float],
    available: Mapping[str, int],
    minimum: int = 0,
    redistribute: bool = True,
) -> Quotas:
    """Return how many of n to draw from each country. Without `redistribute` a country's lack is
    not made up elsewhere.

    The minimum holds for countries that have a share and are in the pool; one that has fewer gives
    what it has."""
    codes = tuple(share)
    weights = np.array([share[code] for code in codes])
    there = np.array([available.get(code, 0) for code in codes], dtype=np.int64)
    least = np.where((weights > 0) & (there > 0), minimum, 0)
    requested = apportion(n, weights, least, np.full(len(codes), n))
    if redistribute:
        drawn = apportion(n, weights, np.minimum(least, there), there)
    else:
        drawn = np.minimum(requested, there)
    return Quotas(codes, weights, requested, there, drawn)


def draw_cells(
    quota: int,
    capacity: NDArray[np.int64],
    population: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Return how many of `quota` to take from each cell of one country: draws with p ~ log(1 +
    population), Eq. 12.

    capacity: rows of the pool in each cell, at least `quota` in all. A draw from a full cell is
    made again among the others; cells without population are drawn from, equally likely, when the
    others are used up."""
    if capacity.sum() < quota:
        raise ValueError(f"{quota} rows wanted of {capacity.sum()}")
    weights = np.log1p(population)
    taken = np.zeros(len(capacity), dtype=np.int64)
    while (left := quota - int(taken.sum())) > 0:
        room = capacity - taken
        p = np.where(room > 0, weights, 0.0)
        p = p if p.any() else (room > 0).astype(np.float64)
        taken += np.minimum(rng.multinomial(left, p / p.sum()), room)
    return taken


def cell_of(lat: ArrayLike, lon: ArrayLike) -> NDArray[np.int64]:
    """Return the number of the 1-degree cell, 0 .. 64,799: row by row from 90 S, 180 W. Positions
    in degrees, on Earth."""
    row = np.minimum(np.floor(np.asarray(lat) + 90), 179).astype(np.int64)
    column = (np.floor(np.asarray(lon) + 180).astype(np.int64)) % 360
    cells: NDArray[np.int64] = row * 360 + column
    return cells


def cell_centre(cells: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (lat, lon) in degrees."""
    row, column = np.divmod(np.asarray(cells), 360)
    return row - 89.5, column - 179.5


def entropy_bits(counts: ArrayLike) -> float:
    """Return Shannon entropy of a distribution given by counts; 2 to this power is the effective
    number of classes."""
    counts = np.asarray(counts, dtype=np.float64)
    p = counts[counts > 0] / counts.sum() if counts.sum() else counts[:0]
    return float(-(p * np.log2(p)).sum()) + 0.0
