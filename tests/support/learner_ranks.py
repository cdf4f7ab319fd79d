"""The same steps by 1, 2 and 4 ranks at ZeRO 0, 2 and 3: a script, so that the ranks are forks of
one loaded process.

    python -m tests.support.learner_ranks MODEL OUT PICTURE PICTURE PICTURE

Every rank writes OUT/<ranks>-<rank>.json: {case: {"rows": metrics of each step, "probe":
log-probabilities}}. The cases differ in everything that must not matter: stage, micro-batches,
shared rows, order of groups and samples, streamed groups or the whole batch in one call."""

from __future__ import annotations

import json
import multiprocessing
import random
import socket
import sys
from dataclasses import replace
from pathlib import Path

import deepspeed  # noqa: F401  loaded once, before the forks

from actors.learner import Learner
from geoagent_rl.grpo.schedule import grpo_phase
from tests.support.learner_cases import Place, config, group

STEPS, WORLDS, LIMIT_S = 2, (1, 2, 4), 150.0
SEPARATE, SHARED, PACKED = {"share": False}, {"multiple": 8}, {"packed": True}
# name: (ZeRO stage, tokens of a micro-batch, layout of rows, seed of the order, groups streamed)
CASES = {
    "zero0": (0, 8192, SEPARATE, 0, True),
    "zero0-whole": (0, 300, SHARED, 1, False),
    "zero0-packed": (0, 8192, PACKED, 5, True),
    "zero1": (1, 8192, SHARED, 6, True),
    "zero1-whole": (1, 300, PACKED, 7, False),
    "zero2": (2, 250, SEPARATE, 2, True),
    "zero3": (3, 400, PACKED, 3, True),
    "zero3-whole": (3, 8192, SHARED, 4, False),
}


def steps(learner: Learner, place: Place, order: int, streamed: bool) -> list[dict]:
    """STEPS steps of three groups, the second one with an unscorable sample, in an order that
    depends on `order`.
    """
    rng, rows = random.Random(order), []
    for _ in range(STEPS):
        groups = [group(place, i, learner.version.number, 2 if i == 1 else None) for i in range(3)]
        rng.shuffle(groups)
        taken = []
        for g in groups:
            shuffled = rng.sample(range(len(g.samples)), len(g.samples))
            samples, advantages = (
                tuple(values[i] for i in shuffled) for values in (g.samples, g.advantages)
            )
            g = replace(g, samples=samples, advantages=advantages)
            taken.append(g)
            if streamed:
                learner.accumulate(g)
        if not streamed:
            learner.accumulate(*taken)
        rows.append(learner.step()[1])
    return rows


def work(rank: int, world: int, address: str, place: Place, out: Path) -> None:
    found = {}
    for name, (stage, budget, layout, order, streamed) in CASES.items():
        c = config(zero_stage=stage, micro_batch_tokens=budget, ranks=world)
        c.policy.gradient_checkpointing = name == "zero3"
        learner = Learner(c, place[0], grpo_phase(c), None, rank, world, address)
        learner.passes.layout = replace(learner.passes.layout, **layout)
        rows = steps(learner, place, order, streamed)
        found[name] = {"rows": rows, "probe": learner.version.probe_logprobs}
    learner.close()
    (out / f"{world}-{rank}.json").write_text(json.dumps(found))


def main() -> None:
    model, out, *pictures = sys.argv[1:]
    fork = multiprocessing.get_context("fork")
    for world in WORLDS:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{s.getsockname()[1]}"
        arguments = (world, address, (model, pictures), Path(out))
        ranks = [
            fork.Process(target=work, args=(rank, *arguments), daemon=True) for rank in range(world)
        ]
        for process in ranks:
            process.start()
        for rank, process in enumerate(ranks):
            process.join(LIMIT_S)
            if process.exitcode != 0:  # the others end with this process
                sys.exit(
                    f"rank {rank} of {world}: exit code {process.exitcode} (None: not done in {LIMIT_S:g} s)"
                )


if __name__ == "__main__":
    main()
