"""How fast and how big the gazetteer is: `python tests/benchmarks/gazetteer.py` prints one JSON object.

build_seconds: packing it from nothing, in a directory of its own. open_seconds, rss_mb: in a fresh process, with what a
look-up needs. The mix: distinct addresses of real places, of which one in ten has an unknown place, one in ten an
unknown region, one in ten another place's region. cold: each address once, nothing remembered. rl: groups of 8 answers,
of which half repeat one of the group. warm: addresses seen before (at most the 65,536 that a process remembers).
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time

import psutil

DISTINCT = 20_000
GROUPS = 2_500


def mix(gazetteer) -> list[tuple[str, str, str]]:
    rng = random.Random(0)
    places = rng.sample(list(gazetteer.places(min_population=1_000)), DISTINCT)
    addresses = []
    for i, place in enumerate(places):
        country, region, name = place.country, place.admin1, place.name
        if i % 10 == 7:
            name = f"Nowhere Street {i}"
        elif i % 10 == 8:
            region = f"Nowhere Region {i % 100}"
        elif i % 10 == 9:
            region = places[i - 5].admin1
        addresses.append((country, region, name))
    return addresses


def rl_groups(addresses: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """GROUPS groups of 8 answers, four distinct and four repeats."""
    rng = random.Random(1)
    rows = []
    for start in range(0, 4 * GROUPS, 4):
        distinct = addresses[start % DISTINCT : start % DISTINCT + 4]
        rows += rng.sample(distinct + rng.choices(distinct, k=4), 8)
    return rows


def rate(gazetteer, addresses: list[tuple[str, str, str]]) -> float:
    started = time.perf_counter()
    for address in addresses:
        gazetteer.geocode(*address)
    return len(addresses) / (time.perf_counter() - started)


def main() -> None:
    from geoagent_rl.geo.gazetteer import Gazetteer

    process = psutil.Process()
    process.cpu_affinity(process.cpu_affinity()[:1])  # one core
    if "--child" not in sys.argv:
        with tempfile.TemporaryDirectory() as folder:
            started, before = time.perf_counter(), sum(os.times()[2:4])
            Gazetteer.open(folder).close()
            built, cpu = time.perf_counter() - started, sum(os.times()[2:4]) - before
            print(json.dumps({"build_seconds": round(built, 1), "build_cpu_seconds": round(cpu, 1)}))
        Gazetteer.open().close()
        os.execv(sys.executable, [sys.executable, __file__, "--child"])  # measure in a fresh process
    base = process.memory_info().rss
    started = time.perf_counter()
    gazetteer = Gazetteer.open()
    gazetteer.geocode("Germany", "Bayern", "München")
    opened = time.perf_counter() - started
    addresses = mix(gazetteer)
    gazetteer.close()
    gazetteer = Gazetteer.open()
    listed = process.memory_info().rss
    cold = rate(gazetteer, addresses)
    warm = max(rate(gazetteer, addresses) for _ in range(3))
    extra = process.memory_info().rss - listed
    gazetteer.close()
    gazetteer = Gazetteer.open()
    rl = rate(gazetteer, rl_groups(addresses))
    result = {
        "open_seconds": round(opened, 3),
        "cold_distinct_per_s": round(cold),
        "rl_groups_per_s": round(rl),
        "warm_per_s": round(warm),
        "rss_before_mb": round(base / 1e6),
        "rss_of_20000_lookups_mb": round(extra / 1e6),
        "rss_after_mb": round(process.memory_info().rss / 1e6),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
