"""The report's rollouts: true and predicted places on a map, and cards of some."""

from __future__ import annotations

from geoagent_rl.pages.maps import world_map
from geoagent_rl.pages.page import render
from geoagent_rl.pages.recorded import Recorded
from geoagent_rl.pages.rollout_cards import card, choose, details, distance_km, weights_of

MAP_PAIRS = 200


def places(run: Recorded) -> str:
    """Return the map of where the last steps' answers lie."""
    pairs, answers, seen = [], [], set()
    for row in reversed(run.late):
        found, truth = details(row, "spatial"), row["truth"]
        if distance_km(row) is None or found.get("lat") is None:
            continue
        answers.append((found["lat"], found["lon"]))
        if row["uid"] in seen:
            continue
        seen.add(row["uid"])
        name = ", ".join(n for n in (truth["place"], truth["region"], truth["country"]) if n)
        hover = f"{name} → {found.get('name', '')}: {distance_km(row):,.0f} km"
        pairs.append(((truth["lat"], truth["lon"]), (found["lat"], found["lon"]), hover))
    if not pairs:
        return ""
    pairs = pairs[:MAP_PAIRS]
    note = (
        f"one rollout for each of {len(pairs)} photographs of the last steps; "
        f"density: all {len(answers):,} answers"
    )
    drawn = world_map(pairs, note=note, answers=answers)
    return render("run_places.html", map=drawn)


def cards(run: Recorded) -> str:
    """Return a card for each of some rollouts, best and worst among them."""
    early, late, config = run.early, run.late, run.config
    weights = weights_of(config)
    form = (config.get("policy") or {}).get("answer", "levels")
    shown = [card(label, row, weights, form) for label, row in choose(early, late)]
    return render("run_rollouts.html", cards=shown) if shown else ""
