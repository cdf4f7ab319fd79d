"""The training loop of Step III (GRPO), written against protocols: it runs on Ray actors and, in
tests, on fakes.

Invariants. Every started prompt ends in exactly one group, which one step takes (and trains on,
unless dynamic sampling drops it). Groups are taken in the order in which they were started, so a
resumed run, which starts at the first prompt that no finished step has taken, repeats an
uninterrupted one. Each sample is scored the moment it is generated, and a group is accumulated the
moment it is scored: the weights do not change before `learner.step()`, so streaming is exactly
on-policy at `max_staleness` 0. The driver holds ids and small records only. May know nothing of
Ray, vLLM or DeepSpeed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

from geoagent_rl.config import Config
from geoagent_rl.credit import OVER_BATCH, advantages_of_group, with_batch_advantages
from geoagent_rl.data.images import BadImage
from geoagent_rl.generation import Engine, NoEngineCompletes, Scorer, generate_and_score
from geoagent_rl.grpo.sampling import still_wanted, trains
from geoagent_rl.grpo.staleness import groups_under_way
from geoagent_rl.grpo.stopping import (
    UNSCORABLE_WINDOW,
    stop_if_futile,
    stop_if_unreadable,
    stop_if_unscorable,
    unscorable_share,
)
from geoagent_rl.metrics.batch import sample_metrics, staleness_metrics
from geoagent_rl.metrics.spans import Spans, StepClock, time_metrics
from geoagent_rl.types import (
    Group,
    PolicyVersion,
    Prompt,
    Sampling,
)

log = logging.getLogger(__name__)


class GrpoLearner(Protocol):
    """See actors.learner_group.LearnerGroup."""

    async def accumulate(self, group: Group) -> None:
        """Add the gradients of one group; return when that is done. Others may be handed over
        meanwhile; they are taken in the order of the calls."""

    async def step(self) -> tuple[PolicyVersion, dict[str, float]]:
        """Update the policy; return the new version and the step's metrics."""
        ...


T = TypeVar("T")
OnStep = Callable[[int, dict[str, Any], Sequence[Group]], Awaitable[None]]


async def train(
    config: Config,
    prompt_at: Callable[[int], Prompt],
    engines: Sequence[Engine],
    scorer: Scorer,
    learner: GrpoLearner,
    on_step: OnStep,
    first_step: int = 0,
    first_prompt: int | None = None,
) -> None:
    """Run steps first_step .. config.steps - 1; engines must already hold the learner's weights.

    prompt_at(i) is the i-th prompt of the run. `on_step(step, metrics, groups)` is awaited after
    each step, with the step counted from 1; metrics["prompts"] is what a run resumed after this
    step needs as first_prompt (None: every step before first_step took rollout.prompts_per_step).
    Raises UserError above `reward.max_unscorable_share`, InfraError when a part died for good."""
    size = config.rollout.prompts_per_step
    running: deque[tuple[asyncio.Task[Group], Spans]] = deque()
    learning: list[asyncio.Task[None]] = []  # what the learner has of the step under way
    started = first_step * size if first_prompt is None else first_prompt
    unscorable: deque[float] = deque(maxlen=UNSCORABLE_WINDOW)
    unreadable: deque[float] = deque(maxlen=UNSCORABLE_WINDOW)
    futile, alone = 0, asyncio.Lock()
    try:
        for step in range(first_step, config.steps):
            clock = StepClock(time.monotonic(), shared=config.placement.colocate)
            groups: list[Group] = []
            while wanted := still_wanted(groups, config.rollout):
                while len(running) < groups_under_way(
                    wanted, config.max_staleness, size, config.steps - 1 - step
                ):
                    prompt, spans = prompt_at(started), Spans()
                    work = make_group(config, prompt, started, engines, scorer, alone, spans)
                    running.append((asyncio.create_task(work), spans))
                    started += 1
                group, _ = running.popleft()
                groups.append(await group)
                raise_first(learning)
                if config.learner.advantage not in OVER_BATCH:
                    learning += learnt_from(groups[-1:], config, learner, clock)
            if config.learner.advantage in OVER_BATCH:
                groups = with_batch_advantages(config, groups)
                learning += learnt_from(groups, config, learner, clock)
            await asyncio.gather(*learning)
            learning.clear()
            prompts = started - len(running)
            clock.ahead = [spans for _, spans in running]
            row = await uninterrupted(
                finish_step(step + 1, prompts, clock, groups, engines, learner, on_step)
            )
            unscorable.append(unscorable_share(groups, config.rollout.group_size))
            stop_if_unscorable(unscorable, config.reward.max_unscorable_share, groups)
            unreadable.append(row["bad_image_share"])
            stop_if_unreadable(unreadable, config.reward.max_unscorable_share, groups)
            futile = futile + 1 if row.get("step_skipped") else 0
            stop_if_futile(futile, row, config.learner.skip_grad_norm)
    finally:
        tasks = [*(group for group, _ in running), *learning]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def learnt_from(
    groups: Sequence[Group], config: Config, learner: GrpoLearner, clock: StepClock
) -> list[asyncio.Task[None]]:
    """Hand over the groups that the step trains on; the tasks end when they are learnt from."""
    return [
        asyncio.create_task(timed(clock.learning, learner.accumulate(group)))
        for group in groups
        if trains(group, config.rollout)
    ]


def raise_first(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Raise what one of the tasks that have ended raised."""
    for task in tasks:
        if task.done():
            task.result()


async def finish_step(
    step: int,
    prompts: int,
    clock: StepClock,
    groups: Sequence[Group],
    engines: Sequence[Engine],
    learner: GrpoLearner,
    on_step: OnStep,
) -> dict[str, Any]:
    """Make the optimizer step, give all engines the new weights, return the metrics."""
    version, metrics = await timed(clock.learning, learner.step())
    await timed(clock.swapping, asyncio.gather(*(engine.swap(version) for engine in engines)))
    clock.end = time.monotonic()
    trained = version.number - (
        not metrics.get("step_skipped")
    )  # the version that the gradient was taken of
    row = {
        "step": step,
        "prompts": prompts,
        **sample_metrics(groups),
        **staleness_metrics(groups, trained),
    }
    row |= {**metrics, **time_metrics(clock, groups)}
    row["tokens_per_s"] = tokens(groups) / max(row["step_seconds"], 1e-9)
    await on_step(step, row, groups)
    return row


async def uninterrupted(work: Awaitable[Any]) -> Any:
    """Await `work`; when cancelled meanwhile, however often, finish it first: a step that has begun
    is recorded whole.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            task.result()  # what it raised comes before the cancellation
        raise


async def make_group(
    config: Config,
    prompt: Prompt,
    position: int,
    engines: Sequence[Engine],
    scorer: Scorer,
    alone: asyncio.Lock,
    spans: Spans,
) -> Group:
    """Generate and score the G samples of one prompt. One whose picture cannot be decoded, or that
    no engine completes, gives a group without. alone: shared by the groups of a run. spans: is told
    how far its completions have come.
    """
    # A prompt that comes again in a later epoch gets other completions.
    seed = config.run.seed * 1_000_003 + position
    sampling = Sampling(config.rollout.group_size, seed, learnt=True)
    try:
        scored = await generate_and_score(
            engines, position, scorer, prompt, sampling, config.rollout.timeout_s, alone, spans
        )
    # Damage that the manifest's quick check could not see, or a prompt that kills engines: one
    # prompt, not the run.
    except (BadImage, NoEngineCompletes) as error:
        log.warning("%s: left out: %s", prompt.uid, error)
        spans.clear()
        return Group(prompt, (), (), str(error), isinstance(error, NoEngineCompletes))
    return Group(prompt, tuple(scored), tuple(advantages_of_group(config, scored)))


async def timed(into: list[tuple[float, float]], work: Awaitable[T]) -> T:
    """Await `work` and note when it ran."""
    start = time.monotonic()
    try:
        return await work
    finally:
        into.append((start, time.monotonic()))


def tokens(groups: Sequence[Group]) -> int:
    """Return the number of generated tokens."""
    return sum(len(s.rollout.completion_ids) for g in groups for s in g.samples)
