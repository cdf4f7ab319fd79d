"""The sections of engine_cycle, in order. Each is a coroutine over a Bench and may run alone."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import replace
from typing import Any

import torch
from peft import set_peft_model_state_dict
from safetensors.torch import load, save

from actors.learner import Learner
from actors.rollout import BROKEN, RolloutEngine
from actors.vllm_engine import mean_gap
from geoagent_rl.data.images import open_image
from geoagent_rl.grpo.advantages import group_advantages
from geoagent_rl.policy.model import ADAPTER_TENSORS, Policy, adapter_state, load_policy
from geoagent_rl.types import (
    Group,
    InfraError,
    PolicyVersion,
    Prompt,
    Rollout,
    Sampling,
    ScoredRollout,
)
from tests.gpu.cycle_bench import Bench
from tests.gpu.gaps import compare, gaps
from tests.gpu.results import GIB

MOVE = (0.1, 1.0)  # by how many nats a step is to change sampled tokens; lr is adapted to it


async def engine(bench: Bench) -> None:
    """Start and speed; "bare": without seeds, bans and log-probabilities; and after a sleep."""
    made, seed, row = await bench.ready_engine(), bench.asked.seed, {}
    # what is compiled at the first request
    await bench.generate(made, seed + 1, bench.prompts[:1], row)
    for case in ("new pictures", "known pictures"):
        groups = await bench.generate(made, seed, bench.prompts, row)
        prompt_tokens = len(groups[0][0].prompt_ids)
        bench.results.record("engine", case, prompt_tokens=prompt_tokens, **row)
    bench.results.record("engine", "bare", **await bare(bench, made, len(groups[0])))
    if bench.config.placement.colocate:
        row = {}
        with bench.results.phase("sleep", row):
            await made.sleep()
        with bench.results.phase("wake", row):
            await bench.ready_engine()
        again = await bench.generate(made, seed, bench.prompts, row)
        row |= compare(sum(again, []), sum(groups, []))
        bench.results.record("engine", "slept", **row)


async def bare(bench: Bench, made: RolloutEngine, group: int) -> dict[str, Any]:
    """The engine's speed without what the project asks of every request."""
    sampling = Sampling(group, bench.asked.seed)
    params = made.sampling_params("bare", 0, sampling, bench.asked.tokens)
    params.seed, params.logit_bias, params.logprobs, params.ignore_eos = None, None, None, True
    inputs = [
        await made.render(p, open_image(p.image)) for p in bench.prompts for _ in range(group)
    ]
    begin = time.monotonic()
    work = [made.run(dict(given), params, f"bare/{i}", None) for i, given in enumerate(inputs)]
    outputs = await asyncio.gather(*work)
    count = sum(len(output.outputs[0].token_ids) for output in outputs)
    return {"tokens_s": count / (time.monotonic() - begin), "tokens": count}


async def cycle(bench: Bench, rounds: int = 0) -> None:
    """Steps as the driver and a ColocatedLearner make them, phase by phase, random rewards."""
    for number in range(1, 1 + (rounds or bench.asked.rounds)):
        row: dict[str, Any] = {}
        try:
            await one_round(bench, number, row)
        finally:
            bench.results.record("cycle", f"round {number}", **row)


async def one_round(bench: Bench, number: int, row: dict[str, Any]) -> None:
    made, learner, first = await bench.ready_engine(), bench.ready_learner(), bench.prompts[0]
    bench.previous = before = learner.version
    phase = bench.results.phase
    learner.phase = replace(learner.phase, lr=bench.lr)
    if bench.cuda:
        torch.cuda.reset_peak_memory_stats()
    with phase("generate", row):
        groups = await bench.generate(made, bench.asked.seed + number, bench.prompts, row)
    if bench.config.placement.colocate:
        with phase("sleep", row):
            await made.sleep()
    row["agree"] = bench.learner_gap(first, groups[0])
    with phase("accumulate", row):
        for group in scored(bench.prompts, groups, f"{bench.asked.seed}/{number}"):
            learner.accumulate(group)
    row["learner_peak_GiB"] = torch.cuda.max_memory_allocated() / GIB if bench.cuda else 0.0
    with phase("step", row):
        version, metrics = learner.step()
    changed = version.number != before.number
    row |= {"version": version.number, "changed": changed, "metrics": metrics}
    row |= {"sampler_gap": metrics["sampler_gap"], "stale": bench.learner_gap(first, groups[0])}
    row["learner_moved"] = mean_gap(version.probe_logprobs, before.probe_logprobs)
    moved = row["stale"]["mean"]
    bench.lr *= 5 if moved < MOVE[0] else 0.2 if moved > MOVE[1] else 1
    with phase("swap", row):
        await swap(bench, made, version, row)


def scored(prompts: list[Prompt], groups: list[list[Rollout]], seed: str) -> list[Group]:
    """The groups with random rewards."""
    rewards, found = random.Random(seed), []
    for prompt, rollouts in zip(prompts, groups, strict=True):
        samples = tuple(ScoredRollout(r, {}, rewards.random()) for r in rollouts)
        advantages = tuple(group_advantages([s.total for s in samples]))
        found.append(Group(prompt, samples, advantages))
    return found


async def swap(
    bench: Bench, made: RolloutEngine, version: PolicyVersion, row: dict[str, Any]
) -> None:
    """The engine's own swap. A refusal is noted and overruled: the rest is to be seen too."""
    before = made.probe
    with bench.results.guard("swap", f"to version {version.number}"):
        await made.swap(version)
    if made.version.number == BROKEN and not made.asleep:
        made.probe, made.version = await made.probe_logprobs(), version
    row["probe_gap"] = mean_gap(made.probe, version.probe_logprobs)
    row["moved"] = mean_gap(made.probe, before)


async def checks(bench: Bench) -> None:
    """Repeatability; then engines without CUDA graphs, one with the weights in the other form."""
    made, prompt, seed = await bench.ready_engine(), bench.prompts[0], bench.asked.seed + 100
    if not bench.ready_learner().updates:
        await cycle(bench, 1)
    (kept,) = await bench.generate(made, seed, [prompt], {})
    for case, prompts in {"repeated": [prompt], "in company": bench.prompts}.items():
        again = (await bench.generate(made, seed, prompts, {}))[0]
        bench.results.record("checks", case, **compare(again, kept))
    layout = bench.ready_learner().passes.layout
    alone = replace(layout, share=False, packed=False)
    itself = gaps(bench.replayed(prompt, kept, layout), bench.replayed(prompt, kept, alone))
    agree = bench.learner_gap(prompt, kept)
    bench.results.record("checks", "first engine", agree=agree, itself=itself)
    await made.stop()
    bench.engine = None
    for form in other_forms(bench):
        await elsewhere(bench, form, kept)


def other_forms(bench: Bench) -> list[str]:
    """How other engines take the newest version: as the first one, where that was not eager itself;
    and the other way."""
    first = bench.config.rollout.swap
    other = "merged" if first == "adapter" else "adapter"
    return [first, other] if bench.cuda and not bench.asked.eager else [other]


async def elsewhere(bench: Bench, form: str, kept: list[Rollout]) -> None:
    """A new, eager engine with the newest version, compared with the completions `kept`."""
    case, prompt, seed = f"eager, {form}", bench.prompts[0], bench.asked.seed + 100
    row: dict[str, Any] = {}
    with bench.results.guard("checks", case):
        made = await bench.started(form, eager=True)
        try:
            await swap(bench, made, bench.ready_learner().version, row)
            (found,) = await bench.generate(made, seed, [prompt], {})
            row |= compare(found, kept) | {"agree": bench.learner_gap(prompt, found)}
            bench.results.record("checks", case, **row)
        finally:
            await made.stop()


async def precision(bench: Bench) -> None:
    """Whose rounding the gap is: engine and learner beside the same policy in float32."""
    if not bench.ready_learner().updates:
        await cycle(bench, 1)
    made, learner, prompt = await bench.ready_engine(), bench.ready_learner(), bench.prompts[0]
    (found,) = await bench.generate(made, bench.asked.seed + 200, [prompt], {})
    if bench.config.placement.colocate:
        await made.sleep()
    sampled, layout = [r.logprobs for r in found], learner.passes.layout
    learnt, own = bench.replayed(prompt, found, layout), learner.policy
    lora = (bench.config.policy.lora_rank, bench.config.policy.lora_alpha)
    exact = load_policy(str(bench.model), bench.config.policy.dtype, lora).float()
    set_peft_model_state_dict(exact.model, adapter_state(own))
    try:
        use(learner, exact.to(learner.sharded.device))
        truth = bench.replayed(prompt, found, layout)
    finally:
        use(learner, own)
    bench.results.record(
        "precision",
        f"{bench.config.policy.dtype} against float32",
        engine=gaps(sampled, truth),
        learner=gaps(learnt, truth),
        engine_learner=gaps(sampled, learnt),
        mean_logprob=sum(map(sum, sampled)) / sum(map(len, sampled)),
    )
    del exact
    if bench.cuda:
        torch.cuda.empty_cache()
    await bench.ready_engine()


def use(learner: Learner, policy: Policy) -> None:
    """Let a learner's passes run through another policy."""
    learner.policy = learner.pictures.policy = learner.passes.policy = policy


async def refused(bench: Bench) -> None:
    """Old or half weights under the newest version's name: the engine must refuse both."""
    if bench.ready_learner().updates < 2:
        await cycle(bench, 2)
    newest, before = bench.ready_learner().version, bench.previous
    assert before is not None and before.files
    tensors = load(newest.files[ADAPTER_TENSORS].tobytes())
    kept = save({name: t for name, t in tensors.items() if ".layers.1." not in name})
    half = {**newest.files, ADAPTER_TENSORS: kept}
    for case, files in {"stale": before.files, "half": half}.items():
        made, said = await bench.ready_engine(), "taken"
        number = newest.number + 1  # another than it holds, so that it has to be loaded
        try:
            await made.swap(replace(newest, number=number, files=files))
        except InfraError as error:
            said = str(error)
        bench.results.record("refused", case, refused=said != "taken", said=said[-120:])
        await made.swap(newest)
