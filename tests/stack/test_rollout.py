"""The rollout engine on a random tiny Qwen2.5-VL: real vLLM, real swaps, log-probabilities against
transformers.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import pytest_asyncio
import torch
from PIL import Image

from actors.publishing import published
from actors.remote_rollout import RemoteRollout
from actors.rollout import RolloutEngine
from actors.vllm_engine import judge_engine_args, rollout_engine_args
from geoagent_rl import config as configuration
from geoagent_rl.config import Config
from geoagent_rl.config.reward import JudgeConfig
from geoagent_rl.data.images import BadImage
from geoagent_rl.plan.estimate import make_plan
from geoagent_rl.policy.model import everything_here, load_network, load_policy, save_merged
from geoagent_rl.policy.prompt import banned_ids, encode, load_processor, probe_ids
from geoagent_rl.types import InfraError, PolicyVersion, Prompt, Rollout, Sampling, Truth, UserError
from tests.support import tiny_random
from tests.support.paths import CONFIGS

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]
NOWHERE = Truth("", "", "", 0.0, 0.0)
UNSHARDED = SimpleNamespace(gather=everything_here)


def settings(swap: str = "merged") -> Config:
    config = Config()
    config.policy.max_pixels, config.policy.lora_rank = 84 * 84, 8
    config.rollout.swap, config.rollout.max_tokens, config.rollout.temperature = swap, 24, 0.7
    config.rollout.max_model_len, config.rollout.memory, config.rollout.timeout_s = 512, 0.1, 120
    return config


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> list[str]:
    return [
        tiny_random.build(tmp_path_factory.mktemp(f"policy{seed}"), seed=seed, hidden=64)
        for seed in range(2)
    ]


@pytest.fixture(scope="module")
def prompts(tmp_path_factory) -> list[Prompt]:
    folder = tmp_path_factory.mktemp("pictures")
    return [Prompt(f"p{i}", tiny_random.picture(folder / f"{i}.png", i), NOWHERE) for i in range(4)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(models):
    engine = RolloutEngine(settings(), models[0])
    await engine.start()
    yield engine
    await engine.stop()


async def complete(engine, prompt: Prompt, n: int = 4, seed: int = 5) -> list[Rollout]:
    return sorted(
        [rollout async for rollout in engine.generate(prompt, Sampling(n, seed))],
        key=lambda rollout: rollout.index,
    )


def replay(model: str, rollout: Rollout, picture: str, temperature: float) -> torch.Tensor:
    """Log-probabilities of a completion by transformers: temperature applied, banned tokens out of
    the softmax.
    """
    processor, network = load_processor(model), load_network(model)
    with Image.open(picture) as image:
        prompt = encode(processor, image.convert("RGB"), "tiny", 84 * 84)
    assert prompt.ids == rollout.prompt_ids
    ids = torch.tensor([[*rollout.prompt_ids, *rollout.completion_ids]])
    types = (ids == network.config.image_token_id).long()
    with torch.no_grad():
        logits = network(
            input_ids=ids,
            pixel_values=prompt.pixel_values,
            image_grid_thw=prompt.image_grid_thw,
            mm_token_type_ids=types,
        ).logits[0, len(prompt.ids) - 1 : -1]
    logits[:, list(banned_ids(processor))] = -torch.inf
    return (
        (logits / temperature).log_softmax(-1).gather(1, ids[0, len(prompt.ids) :, None]).squeeze(1)
    )


def probe(model: str) -> tuple[float, ...]:
    ids = probe_ids(load_processor(model).tokenizer)
    return tuple(load_policy(model).text_logprobs(ids).tolist())


async def test_logprobs_are_those_of_the_sampled_distribution(engine, models, prompts):
    for rollout in await complete(engine, prompts[0]):
        expected = replay(models[0], rollout, prompts[0].image, 0.7)
        assert torch.allclose(torch.tensor(rollout.logprobs), expected, atol=1e-3)


async def test_all_completions_arrive_with_their_facts_and_without_vision_tokens(
    engine, models, prompts
):
    processor = load_processor(models[0])
    tokenizer = processor.tokenizer
    groups = await asyncio.gather(*(complete(engine, prompt, 16) for prompt in prompts))
    for prompt, group in zip(prompts, groups, strict=True):
        assert [(r.uid, r.index, r.version) for r in group] == [
            (prompt.uid, i, 0) for i in range(16)
        ]
        for rollout in group:
            assert not set(rollout.completion_ids) & set(banned_ids(processor))
            ended = rollout.completion_ids[-1] in (tokenizer.eos_token_id, tokenizer.pad_token_id)
            assert (
                ended == (rollout.finish_reason == "stop")
                and ended
                or len(rollout.completion_ids) == 24
            )
            assert rollout.text == tokenizer.decode(
                rollout.completion_ids, skip_special_tokens=True
            )
            assert rollout.spans["submitted"] <= rollout.spans["generated"]


async def test_a_completion_depends_on_its_seed_and_not_on_its_company(engine, prompts):
    """To the last bit, which an exact resume needs: batches form by arrival time."""
    alone = await complete(engine, prompts[0])
    crowd = await asyncio.gather(*(complete(engine, prompt) for prompt in reversed(prompts)))
    single = [r async for r in engine.generate(prompts[0], Sampling(1, 5))]
    for company in (crowd[-1], single):
        assert [(r.completion_ids, r.logprobs) for r in company] == [
            (r.completion_ids, r.logprobs) for r in alone[: len(company)]
        ]
    assert len({r.completion_ids for r in alone}) == 4
    assert (await complete(engine, prompts[0], seed=6))[0].completion_ids != alone[0].completion_ids


async def test_a_picture_that_is_learnt_is_processed_once_for_the_learner(
    engine, models, prompts, monkeypatch
):
    monkeypatch.setattr(engine, "store", lambda picture: picture)
    asked = Sampling(4, 5, learnt=True)
    sent = [r.picture async for r in engine.generate(prompts[0], asked) if r.picture is not None]
    with Image.open(prompts[0].image) as image:
        own = encode(load_processor(models[0]), image.convert("RGB"), "tiny", 84 * 84)
    (picture,) = sent
    assert torch.equal(picture.pixel_values, own.pixel_values) and picture.ids == own.ids
    assert not [r async for r in engine.generate(prompts[0], Sampling(4, 5)) if r.picture]


async def test_greedy_completions_are_all_the_same(engine, prompts):
    found = [
        rollout.completion_ids
        async for rollout in engine.generate(prompts[0], Sampling(2, 0, temperature=0))
    ]
    assert found[0] == found[1]


async def test_only_training_samples_from_a_truncated_distribution(engine, prompts, monkeypatch):
    whole = await complete(engine, prompts[0])
    greedy = engine.generate(prompts[0], Sampling(1, 0, temperature=0))
    (best,) = [rollout.completion_ids async for rollout in greedy]
    for name, value in (("top_k", 1), ("top_p", 1e-6)):
        with monkeypatch.context() as patch:
            patch.setattr(engine.config.rollout, name, value)
            assert {r.completion_ids for r in await complete(engine, prompts[0], 2)} == {best}
            own = engine.generate(prompts[0], Sampling(4, 5, temperature=0.7))
            found = {r.index: r.completion_ids async for r in own}
            assert [found[r.index] for r in whole] == [r.completion_ids for r in whole]


async def test_a_broken_picture_is_the_users_error_and_harms_nobody(engine, prompts, tmp_path):
    with pytest.raises(BadImage):
        await complete(engine, Prompt("gone", str(tmp_path / "gone.png"), NOWHERE))
    assert len(await complete(engine, prompts[0])) == 4


async def test_a_prompt_that_does_not_fit_is_the_users_error(engine, prompts, monkeypatch):
    monkeypatch.setattr(engine, "unexpanded_ids", engine.unexpanded_ids * 20)
    with pytest.raises(UserError, match="rollout.max_model_len"):
        await complete(engine, prompts[0])


async def test_after_a_swap_the_new_weights_answer_repeated_pictures(engine, models, prompts):
    before = await complete(engine, prompts[0])
    seconds = await engine.swap(PolicyVersion(1, "checkpoint", models[1], probe(models[1])))
    after = await complete(engine, prompts[0])
    assert seconds < 5 and {r.version for r in after} == {1}
    assert [r.completion_ids for r in after] != [r.completion_ids for r in before]
    expected = replay(models[1], after[0], prompts[0].image, 0.7)
    assert torch.allclose(torch.tensor(after[0].logprobs), expected, atol=1e-3)


async def test_completions_in_flight_end_before_the_weights_change(engine, models, prompts):
    tasks = [asyncio.create_task(complete(engine, prompt, 8)) for prompt in prompts]
    while engine.in_flight < len(prompts):
        await asyncio.sleep(0)
    await engine.swap(PolicyVersion(2, "checkpoint", models[0], probe(models[0])))
    assert {r.version for group in await asyncio.gather(*tasks) for r in group} == {1}
    assert {r.version for r in await complete(engine, prompts[0])} == {2}


async def test_after_fifty_adapters_the_weights_are_the_base_and_the_fiftieth(
    engine, models, prompts, tmp_path
):
    """To the last bit, as an export has them: each is merged into the untouched base."""
    await engine.swap(PolicyVersion(2, "checkpoint", models[0]))
    policy = load_policy(models[0], lora=(8, 16))
    factors = [p for name, p in policy.named_parameters() if "lora_" in name]
    for number in range(3, 53):
        for i, factor in enumerate(factors):
            seed = torch.Generator().manual_seed(100 * number + i)
            torch.nn.init.normal_(factor, std=0.1, generator=seed)
        files, digest = published(policy, UNSHARDED, engine.config, write=True)
        await engine.swap(PolicyVersion(number, "adapter", digest=digest, files=files))
    greedy = Sampling(1, 0, temperature=0)
    merged = [[r async for r in engine.generate(prompt, greedy)] for prompt in prompts]

    exported = str(tmp_path / "exported")
    save_merged(policy, models[0], exported)
    assert await engine.engine.collective_rpc("weights_problem", args=(exported,)) == [""]
    await engine.swap(PolicyVersion(53, "checkpoint", exported))
    whole = [[r async for r in engine.generate(prompt, greedy)] for prompt in prompts]
    for a, b in zip(merged, whole, strict=True):
        assert (a[0].completion_ids, a[0].logprobs) == (b[0].completion_ids, b[0].logprobs)
    await engine.swap(PolicyVersion(54, "checkpoint", models[0]))


async def test_an_engine_that_cannot_prove_its_weights_refuses_work(engine, models, prompts):
    with pytest.raises(InfraError, match="differ from the learner's"):
        await engine.swap(PolicyVersion(55, "checkpoint", models[0], probe(models[1])))
    with pytest.raises(InfraError, match="failed to take the weights"):
        await complete(engine, prompts[0])


async def test_adapters_in_a_ray_actor_and_nothing_left_when_it_is_killed(
    ray_local, models, prompts, tmp_path, tmp_path_factory
):
    config = settings("adapter")
    policy = load_policy(models[0], lora=(8, 16))
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(1))
    files, digest = published(policy, UNSHARDED, config, write=True)
    save_merged(policy, models[0], str(tmp_path / "merged"))
    temporary = tmp_path_factory.mktemp("t")
    env = {"env_vars": {"TMPDIR": str(temporary)}}
    remote = ray_local.remote(RolloutEngine).options(num_cpus=1, runtime_env=env)
    actor = remote.remote(config, models[0])
    await actor.start.remote()
    engine = RemoteRollout(actor, 120)
    assert {r.version for r in await complete(engine, prompts[0])} == {0}
    learners = probe(str(tmp_path / "merged"))
    reference = ray_local.put(files)  # as a learner's rank does
    await engine.swap(PolicyVersion(1, "adapter", "", learners, digest, reference))
    rollout = (await complete(engine, prompts[0]))[0]
    expected = replay(str(tmp_path / "merged"), rollout, prompts[0].image, 0.7)
    assert rollout.version == 1 and torch.allclose(
        torch.tensor(rollout.logprobs), expected, atol=1e-3
    )

    family = {p: " ".join(p.cmdline()) for p in psutil.Process().children(recursive=True)}
    cores = [p for p, said in family.items() if "EngineCore" in said and p.ppid() != os.getpid()]
    assert len(cores) == 1, family
    (core,) = cores
    rest = complete(engine, prompts[1], 64)
    os.kill(core.ppid(), signal.SIGKILL)
    with pytest.raises(InfraError, match="actor is gone"):
        await rest
    assert psutil.wait_procs([core], timeout=15)[1] == []
    # What it made lies in the directory that the next engine's start sweeps.
    assert list(temporary.glob("geoagent-files-*/vllm_*")) and not list(temporary.glob("vllm_*"))


async def test_vllm_accepts_the_arguments_for_gpus(models):
    """As far as a machine without GPUs can tell: vLLM's own validation of the same arguments."""
    from vllm.engine.arg_utils import AsyncEngineArgs

    config = settings("adapter")
    config.policy.dtype, config.max_staleness, config.rollout.gpus_per_engine = "bfloat16", 1, 1
    args = rollout_engine_args(config, models[0], {})
    made = AsyncEngineArgs(**args).create_engine_config()
    assert (
        made.lora_config.max_lora_rank == 8
        and made.model_config.logprobs_mode == "processed_logprobs"
    )
    assert made.cache_config.gpu_memory_utilization == config.rollout.memory
    judge = JudgeConfig(gpus_per_replica=1, max_model_len=1024)
    assert (
        AsyncEngineArgs(**judge_engine_args(judge, models[0], "auto"))
        .create_engine_config()
        .scheduler_config.max_num_seqs
        == judge.max_num_seqs
    )
    assert Path(args["model"]).is_dir() and "enforce_eager" not in args


async def test_an_engine_of_several_gpus_keeps_them_in_its_placement_groups_bundle(
    models, monkeypatch
):
    """vLLM's own choice there is Ray, which wants one bundle for each GPU."""
    from vllm.config.parallel import ParallelConfig

    config = settings("adapter")
    config.rollout.gpus_per_engine, config.rollout.tensor_parallel = 2, 2
    args = rollout_engine_args(config, models[0], {})
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    monkeypatch.setattr("ray.util.get_current_placement_group", lambda: "a bundle of 2 GPUs")
    chosen = {name: args[name] for name in ("tensor_parallel_size", "distributed_executor_backend")}
    assert ParallelConfig(**chosen).distributed_executor_backend == "mp"
    assert ParallelConfig(tensor_parallel_size=2).distributed_executor_backend == "ray"


async def test_vllm_accepts_sleep_mode_where_the_platform_has_it(models, monkeypatch):
    from vllm.config.model import current_platform
    from vllm.engine.arg_utils import AsyncEngineArgs

    config = configuration.load(CONFIGS / "single-gpu.yaml")
    args = rollout_engine_args(config, models[0], {}) | {"max_model_len": 512}
    with pytest.raises(ValueError, match="(?i)sleep mode is not supported"):
        AsyncEngineArgs(**args).create_engine_config()
    for name in ("is_sleep_mode_available", "is_cumem_allocator_available"):
        monkeypatch.setattr(type(current_platform), name, lambda self: True)
    assert AsyncEngineArgs(**args).create_engine_config().model_config.enable_sleep_mode


async def test_the_plan_knows_how_much_the_cache_holds(engine, models):
    config = settings()
    config.policy.model = models[0]
    plan = make_plan(config)
    planned = next(
        row["memory"]["cache_tokens"] for row in plan["roles"] if row["role"] == "rollout engine"
    )
    cache = engine.engine.vllm_config.cache_config
    assert planned == pytest.approx(cache.num_gpu_blocks * cache.block_size, rel=0.2)
