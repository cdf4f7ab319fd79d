"""`data audit`: where do a manifest's own names lie, and how far is that from its coordinates?

What a geocoder cannot find, or finds far away, it will reward wrongly: the audit shows its blind
spots before training, for each provider on its own, by the finest level that was found and by
country."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from geoagent_rl.data.outside import Outside, outside
from geoagent_rl.data.sample import Sample
from geoagent_rl.geo.distance import haversine_km
from geoagent_rl.geo.match import Match

FAR_KM = 200.0  # tau of the spatial reward: a right answer found farther off earns little
EXAMPLES = 5
# addresses "Country; Region; Place" -> a Match or None each
Lookup = Callable[[Iterable[str]], Iterable[Match | None]]


@dataclass(frozen=True, slots=True)
class Audit:
    """What one provider made of the names. `rows`: one per group ("all", a level, a country), as
    {group, n, found, median_km, q90_km, far}; kilometres are None where nothing was found."""

    provider: str
    rows: list[dict[str, Any]]
    unresolved: list[str]  # addresses at none of whose levels a place was found
    far: list[str]  # the worst, with what was found and how far it is


def audit(samples: Sequence[Sample], provider: str, look_up: Lookup) -> Audit:
    """Geocode the names of every sample that has some, and measure. Raises as `look_up` does."""
    named = [s for s in samples if s.country or s.region or s.place]
    addresses = [f"{s.country}; {s.region}; {s.place}" for s in named]
    matches = list(look_up(addresses))
    km = np.array(
        [
            haversine_km(m.lat, m.lon, s.lat, s.lon) if m else np.nan
            for s, m in zip(named, matches, strict=True)
        ],
        dtype=float,
    )
    groups: dict[str, list[int]] = defaultdict(list)
    for i, (sample, match) in enumerate(zip(named, matches, strict=True)):
        groups["all"].append(i)
        groups[f"found the {match.level}" if match else "found nothing"].append(i)
        groups[sample.country or "(no country)"].append(i)
    order = sorted(groups, key=lambda name: (name != "all", not name.startswith("found "), name))
    rows = [_row(name, km[groups[name]]) for name in order]
    unresolved = Counter(a for a, match in zip(addresses, matches, strict=True) if match is None)
    worst = [i for i in np.argsort(-np.nan_to_num(km, nan=-1.0)) if km[i] > FAR_KM]
    far = [f"{named[i].uid}: {addresses[i]}: {_found(matches[i])}, {km[i]:.0f} km" for i in worst]
    return Audit(provider, rows, list(unresolved), far)


def abroad(samples: Sequence[Sample]) -> list[tuple[str, Outside]]:
    """Return (uid, what is wrong) of the samples that lie outside the country they name."""
    rows = outside([s.country for s in samples], [s.lat for s in samples], [s.lon for s in samples])
    return [(samples[row.index].uid, row) for row in rows]


def show(audits: Sequence[Audit], strays: Sequence[tuple[str, Outside]], total: int) -> list[str]:
    """Return the report for people, as lines."""
    lines = [f"{total} samples, {len(strays)} outside the country that they name"]
    lines += [f"  {uid}: {stray}" for uid, stray in strays[:EXAMPLES]]
    for one in audits:
        head = f"{one.provider:<28}{'n':>7}{'found':>7}{'median km':>11}{'90 % km':>9}"
        lines += ["", f"{head}{f'> {FAR_KM:.0f} km':>10}"]
        lines += [_line(row) for row in one.rows]
        for what, examples in (("found nowhere", one.unresolved), ("found far away", one.far)):
            if examples:
                lines.append(f"  {len(examples)} {what}, such as:")
                lines += [f"    {example}" for example in examples[:EXAMPLES]]
    return lines


def _row(group: str, km: np.ndarray) -> dict[str, Any]:
    found = km[np.isfinite(km)]
    middle, most = (float(np.quantile(found, q)) if len(found) else None for q in (0.5, 0.9))
    far = int((found > FAR_KM).sum())
    return {
        "group": group,
        "n": len(km),
        "found": len(found),
        "median_km": middle,
        "q90_km": most,
        "far": far,
    }


def _line(row: dict[str, Any]) -> str:
    middle, most = ("-" if row[k] is None else f"{row[k]:.1f}" for k in ("median_km", "q90_km"))
    return f"  {row['group'][:26]:<26}{row['n']:>7}{row['found']:>7}{middle:>11}{most:>9}{row['far']:>10}"


def _found(match: Match | None) -> str:
    return f"{match.level} {match.name}, {match.country_code}" if match else "nothing"
