"""The learner on real DeepSpeed: exact steps, ranks, ZeRO stages, resume, publication, bad numbers,
SFT.
"""

import asyncio
import json
import math
from dataclasses import replace

import pytest
import torch

from actors.node_files import files_here
from geoagent_rl.config import Config
from geoagent_rl.grpo.schedule import grpo_phase, sft_phase
from geoagent_rl.policy.families import FAMILIES
from geoagent_rl.policy.model import load_policy
from geoagent_rl.policy.prompt import load_processor, probe_ids
from geoagent_rl.sft import Demonstration, cold_start, sft_steps
from geoagent_rl.types import InfraError, UserError
from tests.support import tiny_families, tiny_random
from tests.support.learner_cases import config, gap, group, run


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """(checkpoint directory, pictures)."""
    directory = tmp_path_factory.mktemp("tiny")
    model = tiny_random.build(directory)
    return model, [tiny_random.picture(directory / f"{i}.png", i, (84, 56)) for i in range(3)]


@pytest.fixture(scope="module", autouse=True)
def process_group():
    """One for all learners in this process: DeepSpeed keeps references to the first."""
    from actors.deepspeed_engine import stop_distributed

    yield
    stop_distributed()


@pytest.fixture
def learners(place):
    """A function that makes one-rank learners in this process."""
    from actors.learner import Learner

    def make(c: Config | None = None, phase=None) -> Learner:
        c = c or config()
        return Learner(c, place[0], phase or grpo_phase(c), store=lambda files: files)

    return make


def test_streamed_steps_equal_plain_torch(place, learners):
    """Three steps against AdamW on the whole batch at once, without DeepSpeed; with an unscorable
    sample and KL.
    """
    learner = learners(config(micro_batch_tokens=300))
    rows = run(learner, place, 3, unscorable=2)
    expected, losses = plain_torch(place, config(), 3)
    assert [r["loss"] for r in rows] == pytest.approx(losses, rel=1e-4, abs=1e-6)
    assert learner.version.probe_logprobs == pytest.approx(expected, abs=2e-5)
    assert rows[0]["kl"] == 0 and rows[2]["kl"] > 0 and rows[0]["clip_fraction"] == 0


def test_a_cpu_rank_has_a_thread_for_each_core_of_its_own(monkeypatch):
    from actors.learner_group import rank_environment

    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    threads = {
        cores: rank_environment(config(cpus_per_rank=cores).learner)["OMP_NUM_THREADS"]
        for cores in (0.5, 1, 2)
    }
    assert threads == {0.5: "1", 1: "1", 2: "2"}
    assert "OMP_NUM_THREADS" not in rank_environment(
        config(cpus_per_rank=4, gpus_per_rank=1).learner
    )


def plain_torch(place, c: Config, steps: int) -> tuple[list[float], list[float]]:
    from geoagent_rl.data.images import open_image
    from geoagent_rl.grpo.batching import collate, own_rows
    from geoagent_rl.grpo.loss import k3
    from geoagent_rl.grpo.samples import train_group
    from geoagent_rl.policy.model import load_policy
    from geoagent_rl.policy.prompt import banned_ids, encode, load_processor, probe_ids

    model, pictures = place
    processor, policy = load_processor(model), load_policy(model, lora=(8, 16), seed=c.run.seed)
    prompts = [encode(processor, open_image(p), "tiny", 200_000) for p in pictures]
    samples = [
        s
        for i in range(3)
        for s in train_group(group(place, i, 0, 2 if i == 1 else None)).samples()
    ]
    assert len(samples) == 14
    tokens = policy.network.config.image_token_id, processor.tokenizer.pad_token_id
    batch = collate(own_rows(samples), pictures, *tokens)
    grids = torch.cat([p.image_grid_thw for p in prompts])
    features = policy.image_features(torch.cat([p.pixel_values for p in prompts]), grids)
    inputs = (batch, features, policy.position_ids(batch, grids), c.rollout.temperature)
    banned = torch.tensor(banned_ids(processor))
    trainable = [p for p in policy.parameters() if p.requires_grad]
    adamw = torch.optim.AdamW(trainable, lr=c.learner.lr, betas=c.learner.betas, weight_decay=0.0)
    losses = []
    for _ in range(steps):
        reference = policy(*inputs, banned, reference=True)[0].detach()
        logprobs, _ = policy(*inputs, banned)
        surrogate = -torch.exp(logprobs - logprobs.detach()) * batch.advantages[:, None]
        tokens = (surrogate + c.learner.kl_beta * k3(logprobs, reference)) * batch.mask
        loss = (tokens.sum(-1) / batch.mask.sum(-1)).mean()
        losses.append(loss.item())
        adamw.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, c.learner.max_grad_norm)
        adamw.step()
    return policy.text_logprobs(probe_ids(processor.tokenizer)).tolist(), losses


@pytest.mark.parametrize("stage", [0, 3])
def test_gradient_checkpointing_changes_nothing(place, learners, stage):
    """Stages, ranks and splits among each other: test_learner_ranks."""
    c = config(zero_stage=stage)
    expected = run(learners(c), place, 2)
    c.policy.gradient_checkpointing = True
    learner = learners(c)
    calls = count_calls(learner.policy.network.model.language_model.layers[0].mlp)
    for ours, theirs in zip(run(learner, place, 2), expected, strict=True):
        assert {n: ours[n] for n in ("loss", "kl", "grad_norm")} == pytest.approx(
            {n: theirs[n] for n in ("loss", "kl", "grad_norm")}, rel=1e-5, abs=1e-7
        )
    assert len(calls) == 2 * (
        3 * 3 + 1
    )  # a step: for 3 groups reference, loss and recomputation; the probe


def count_calls(module: torch.nn.Module) -> list[int]:
    """Grows by one at each forward pass of the module."""
    calls: list[int] = []
    module.register_forward_pre_hook(lambda *_: calls.append(1))
    return calls


def test_a_picture_is_looked_at_once_for_all_samples_and_passes(place, learners):
    learner = learners(config(micro_batch_tokens=1))  # five micro-batches of two passes each
    calls, passes = (
        count_calls(learner.policy.network.model.visual.patch_embed),
        count_calls(learner.policy.network.lm_head),
    )
    learner.accumulate(group(place, 0, 0))
    assert len(calls) == 1 and len(passes) == 10


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_resume_is_exact(place, learners, tmp_path, dropout):
    c = config()
    c.policy.lora_dropout = dropout
    learner = learners(c)
    run(learner, place, 2)
    learner.save(str(tmp_path / "checkpoint"))
    assert learner.save_problems(wait=True) == []
    rows = run(learner, place, 2)
    resumed = learners(c)
    version = resumed.load(str(tmp_path / "checkpoint"))
    assert version.number == 2 and version.files
    again = run(resumed, place, 2)
    timeless = [
        {k: v for k, v in row.items() if not k.endswith("seconds")} for row in (*rows, *again)
    ]
    assert timeless[:2] == timeless[2:]
    assert resumed.version.probe_logprobs == learner.version.probe_logprobs
    assert resumed.version == learner.version  # digests too


@pytest.mark.parametrize(("stage", "dtype"), [(2, "float32"), (2, "bfloat16"), (3, "bfloat16")])
def test_resume_is_exact_when_sharded(place, learners, tmp_path, stage, dtype):
    """float32 master weights are part of the state; gradient checkpointing does not disturb it."""
    c = config(zero_stage=stage)
    c.policy.dtype, c.policy.gradient_checkpointing = dtype, dtype == "bfloat16"
    learner = learners(c)
    run(learner, place, 2)
    learner.save(str(tmp_path / "checkpoint"))
    assert learner.save_problems(wait=True) == []
    run(learner, place, 1)
    resumed = learners(c)
    resumed.load(str(tmp_path / "checkpoint"))
    run(resumed, place, 1)
    assert resumed.version.probe_logprobs == learner.version.probe_logprobs


def test_published_weights_are_the_policy(place, learners, tmp_path):
    """A published adapter and a merged checkpoint, loaded anew, give the learner's probe; merging
    leaves the learner untouched.
    """
    from geoagent_rl.policy.model import load_adapter, load_policy
    from geoagent_rl.policy.prompt import load_processor, probe_ids

    probe = probe_ids(load_processor(place[0]).tokenizer)
    learner = learners()
    run(learner, place, 1)
    learner.save_merged(str(tmp_path / "merged"))
    assert learner.probe_logprobs() == learner.version.probe_logprobs
    load_processor(str(tmp_path / "merged"))
    adapted = load_policy(place[0], lora=(8, 16), seed=99)
    with files_here(learner.version.files) as folder:
        load_adapter(adapted, str(folder))
    for policy in (load_policy(str(tmp_path / "merged")), adapted):
        found = policy.text_logprobs(probe).tolist()
        assert found == pytest.approx(learner.version.probe_logprobs, abs=1e-5)


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_steps_that_cannot_count_change_nothing(place, learners, stage):
    """Not-a-number losses, infinite gradients, spikes and empty steps are skipped and counted; then
    all goes on as if they had not been."""
    c = config(zero_stage=stage, skip_grad_norm=100.0)
    learner, control = learners(c), learners(c)
    for one in (learner, control):
        run(one, place, 1)
    before = learner.version

    def skipped(advantages: tuple[float, ...] | None) -> dict[str, float]:
        if advantages:
            learner.accumulate(replace(group(place, 0, 1), advantages=advantages))
        version, metrics = learner.step()
        assert metrics["step_skipped"] == 1 and version == before
        assert learner.probe_logprobs() == before.probe_logprobs
        json.dumps(metrics, allow_nan=False)
        return metrics

    assert "loss" not in skipped((math.nan, 1.0, -1.0, 0.0, 0.0))
    spike = skipped((1e4, -1e4, 1.0, 0.0, 0.0))
    assert 100 < spike["grad_norm"] < math.inf and math.isfinite(spike["loss"])
    parameter = next(p for name, p in learner.sharded.trainable.items() if "lora_B" in name)
    infinite = parameter.register_hook(lambda gradient: gradient * math.inf)
    assert "loss" in skipped((1.0, -1.0, 0.0, 0.0, 0.0))
    infinite.remove()
    assert skipped(None)["steps_skipped"] == 4

    (metrics,), (expected,) = run(learner, place, 1), run(control, place, 1)
    assert (
        metrics["step_skipped"] == 0
        and learner.version.number == 2
        and metrics["steps_skipped"] == 4
    )
    assert metrics["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-6)
    assert gap(learner.version, control.version) < 1e-6


@pytest.mark.parametrize(("loss", "budget"), [("grpo", 250), ("bnpo", 250), ("bnpo", 8192)])
def test_cut_off_completions_leave_the_loss_but_not_its_divisor(place, learners, loss, budget):
    """On-policy and without KL the loss is arithmetic of advantages and lengths; two of five
    samples are cut off.
    """
    learner = learners(config(loss=loss, overlong="mask", micro_batch_tokens=budget, kl_beta=0.0))
    sequence_means, group_means, tokens = 0.0, [], 0
    for index in range(2):
        whole = group(place, index, 0)
        cut = tuple(
            replace(s, rollout=replace(s.rollout, finish_reason="length")) if i < 2 else s
            for i, s in enumerate(whole.samples)
        )
        learner.accumulate(replace(whole, samples=cut))
        kept = [
            (a, len(s.rollout.completion_ids)) for a, s in zip(whole.advantages, cut, strict=True)
        ][2:]
        tokens += sum(n for _, n in kept)
        sequence_means -= sum(a for a, _ in kept)
        group_means.append(-sum(a * n for a, n in kept) / sum(n for _, n in kept))
    _, metrics = learner.step()
    expected = sequence_means / 10 if loss == "grpo" else sum(group_means) / 2
    assert (
        metrics["loss"] == pytest.approx(expected, rel=1e-5) and metrics["train_tokens"] == tokens
    )
    assert metrics["step_skipped"] == 0 and learner.version.number == 1


def test_an_importance_correction_weighs_what_the_sampler_saw_otherwise(place, learners):
    """The groups' made-up log-probabilities are -5 a token: weights are far from 1, truncated and
    reported.
    """
    chosen = [config(importance=level, kl_beta=0.0) for level in ("none", "token", "sequence")]
    rows = [run(learners(c), place, 1)[0] for c in chosen]
    assert "importance_weight" not in rows[0] and rows[0]["sampler_gap"] > 0.1
    assert 0 < rows[1]["importance_weight"] < 2 and 0 < rows[2]["importance_weight"] < 2
    assert len({round(row["grad_norm"], 6) for row in rows}) == 3


def test_a_saved_checkpoint_can_be_exported(place, learners, tmp_path):
    from geoagent_rl.policy.export import export
    from geoagent_rl.policy.model import load_policy
    from geoagent_rl.policy.prompt import load_processor, probe_ids

    learner = learners()
    run(learner, place, 1)
    learner.save(str(tmp_path / "checkpoint"), {"prompts": 7})
    assert learner.save_problems(wait=True) == []
    assert json.loads((tmp_path / "checkpoint" / "state.json").read_text())["prompts"] == 7
    export(tmp_path / "checkpoint", tmp_path / "exported")
    found = load_policy(str(tmp_path / "exported")).text_logprobs(
        probe_ids(load_processor(place[0]).tokenizer)
    )
    assert found.tolist() == pytest.approx(learner.version.probe_logprobs, abs=1e-5)


def test_rollouts_of_another_version_are_refused_on_policy(place, learners):
    with pytest.raises(InfraError, match="max_staleness is 0"):
        learners().accumulate(group(place, 0, version=3))


def test_a_demonstration_longer_than_the_policy_can_take_is_named_and_not_cut(place, learners):
    c = config()
    learner = learners(c, sft_phase(c, 1))
    with pytest.raises(UserError, match="^long one: .* 2048 "):
        learner.accumulate_sft([Demonstration("long one", place[1][0], "word " * 500)])


def test_sft_learns_the_answers(place, learners):
    c = config()
    c.sft.lr, c.sft.epochs, c.sft.batch_size, c.sft.warmup_steps = 2e-2, 6, 2, 0
    shown = [
        Demonstration(str(i), p, f"<answer>place {i}</answer>") for i, p in enumerate(place[1])
    ]
    learner = learners(c, sft_phase(c, sft_steps(len(shown), c.sft.epochs, c.sft.batch_size)))

    class Awaitable:
        async def accumulate_sft(self, demonstrations):
            learner.accumulate_sft(demonstrations)

        async def step(self):
            return learner.step()

    losses = []
    asyncio.run(
        cold_start(
            Awaitable(), shown, 6, 2, seed=0, on_step=lambda s, n, m: losses.append(m["loss"])
        )
    )
    assert len(losses) == 12 and losses[-1] < 0.75 * losses[0]


@pytest.mark.parametrize("kind", [kind for kind, f in FAMILIES.items() if f.no_cpu_engine])
def test_a_family_whose_engines_need_gpus_takes_a_cold_start_and_two_steps(kind, tmp_path):
    """All that the stack does of it on CPUs: docs/models.md says what is refused there."""
    from actors.learner import Learner

    base, c = tiny_families.build(kind, tmp_path / "base"), config()
    c.learner.share_prompts = FAMILIES[kind].shares_prompts
    pictures = [tiny_random.picture(tmp_path / f"{i}.png", i, (84, 56)) for i in range(3)]
    shown = [Demonstration(p, p, "<answer>1.5, 2.5</answer>") for p in pictures]
    learner, losses = Learner(c, base, sft_phase(c, 3), store=lambda files: files), []
    for _ in range(3):
        learner.accumulate_sft(shown)
        losses.append(learner.step()[1]["loss"])
    assert losses[2] < losses[0]
    learner.save_merged(str(tmp_path / "sft"))
    place = str(tmp_path / "sft"), pictures
    learner = Learner(c, place[0], grpo_phase(c), store=lambda files: files)
    rows = run(learner, place, 2)
    assert all(row["grad_norm"] > 0 and not row["step_skipped"] for row in rows)
    assert rows[0]["kl"] == 0 and rows[1]["kl"] > 0 and learner.version.number == 2
    learner.save_merged(str(tmp_path / "out"))
    probe = probe_ids(load_processor(place[0]).tokenizer)
    plain = load_policy(str(tmp_path / "out")).text_logprobs(probe).tolist()
    assert plain == pytest.approx(learner.version.probe_logprobs, abs=1e-4)


async def test_two_ranks_equal_one(place, ray_local, learners, tmp_path):
    """Real Ray actors over gloo; five samples a group do not divide by two, so one rank gets a copy
    of weight 0.
    """
    from actors.learner_group import LearnerGroup

    alone = learners(config(loss="bnpo"))
    expected = run(alone, place, 2, unscorable=0)
    c = config(ranks=2, cpus_per_rank=0.5, micro_batch_tokens=250, loss="bnpo")
    ranks = await LearnerGroup.start(c, place[0], grpo_phase(c), True, "learner-test")
    try:
        version = ranks.version
        for row in expected:
            for index in range(3):
                await ranks.accumulate(
                    group(place, index, version.number, 0 if index == 1 else None)
                )
            version, metrics = await ranks.step()
            for name in ("loss", "kl", "entropy", "grad_norm", "train_tokens"):
                assert metrics[name] == pytest.approx(row[name], rel=1e-4, abs=1e-6), name
        assert gap(version, alone.version) < 2e-5
        await ranks.save(str(tmp_path / "checkpoint"))
        assert await ranks.save_problems(wait=True) == []
        with pytest.raises(InfraError, match="max_staleness is 0"):
            await ranks.accumulate(group(place, 0, version=99))
    finally:
        await ranks.stop()
    alone.load(str(tmp_path / "checkpoint"))  # saved by two ranks, continued by one
    assert gap(version, alone.version) < 1e-6
