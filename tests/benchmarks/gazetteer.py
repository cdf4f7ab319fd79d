"""How fast and how big the gazetteer is: `python -m tests.benchmarks.gazetteer` prints one JSON
object a line.

build: packing it from nothing, in a directory of its own. open: the first answer of a fresh
process; memory is counted from before the import of the gazetteer. The mix: distinct addresses of
real places, of which one in ten has an unknown place, one in ten an unknown region, one in ten
another place's region. cold: each address once, nothing remembered.
rl: groups of 8 answers, half of them repeats within the group. warm: addresses seen before (65,536
are remembered). Rates are per second of one core (CPU time, so that other work on the machine does
not count; it is all CPU)."""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path

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
    started = time.process_time()
    for address in addresses:
        gazetteer.geocode(*address)
    return len(addresses) / (time.process_time() - started)


def build() -> dict[str, float]:
    from geoagent_rl.geo.gazetteer import Gazetteer

    with tempfile.TemporaryDirectory() as folder:
        started, before = time.perf_counter(), sum(os.times()[2:4])
        Gazetteer.open(folder).close()
        wall, cpu = time.perf_counter() - started, sum(os.times()[2:4]) - before
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
    return {
        "build_seconds": round(wall, 1),
        "build_cpu_seconds": round(cpu, 1),
        "file_mb": round(size / 1e6),
    }


def use() -> dict[str, float]:
    process = psutil.Process()
    before = process.memory_info().rss
    from geoagent_rl.geo.gazetteer import Gazetteer

    started = time.perf_counter()
    gazetteer = Gazetteer.open()
    gazetteer.geocode("Germany", "Bayern", "München")
    opened = time.perf_counter() - started
    used = process.memory_info().rss
    for i in range(65_536):  # fill what is remembered
        gazetteer.geocode("Germany", "Bayern", f"{i}")
    full = process.memory_info().rss
    gazetteer.close()

    gazetteer = Gazetteer.open()
    addresses = mix(gazetteer)
    cold = rate(gazetteer, addresses)
    warm = max(rate(gazetteer, addresses) for _ in range(3))
    gazetteer.close()
    gazetteer = Gazetteer.open()
    rl = rate(gazetteer, rl_groups(addresses))
    return {
        "open_seconds": round(opened, 3),
        "cold_distinct_per_s": round(cold),
        "rl_groups_per_s": round(rl),
        "warm_per_s": round(warm),
        "extra_mb_when_open": round((used - before) / 1e6),
        "extra_mb_when_full": round((full - before) / 1e6),
    }


if __name__ == "__main__":
    psutil.Process().cpu_affinity(psutil.Process().cpu_affinity()[:1])  # one core
    if "--use" not in sys.argv:
        print(json.dumps(build()), flush=True)
        os.execv(
            sys.executable, [sys.executable, __file__, "--use"]
        )  # a fresh process: no memory of the build
    print(json.dumps(use()))
