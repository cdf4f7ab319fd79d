"""The tiny policy is built reproducibly and loads as an ordinary Qwen2.5-VL checkpoint."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from geoagent_rl.policy.model import load_policy
from geoagent_rl.policy.prompt import encode, load_processor
from geoagent_rl.tiny import policy as tiny
from geoagent_rl.tiny import scenes
from geoagent_rl.tiny.scene_draw import draw
from geoagent_rl.tiny.scene_text import hedges, phrases

SMALL = tiny.Recipe(
    hidden=64, layers=1, heads=2, vision_width=48, vision_depth=1, scenes=6, steps=2, batch=4
)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return tiny.build(tmp_path_factory.mktemp("first"), seed=3, recipe=SMALL)


def test_same_seed_gives_the_same_bytes_and_another_seed_others(built, tmp_path):
    again = tiny.build(tmp_path, seed=3, recipe=SMALL)
    files = sorted(path.name for path in built.iterdir())
    assert files == sorted(path.name for path in again.iterdir()) and "model.safetensors" in files
    for name in files:
        assert (built / name).read_bytes() == (again / name).read_bytes(), name
    other = tiny.build(tmp_path, seed=4, recipe=SMALL)
    assert (other / "model.safetensors").read_bytes() != (built / "model.safetensors").read_bytes()
    assert [path for path in Path(tmp_path).iterdir() if path.name.startswith(".")] == []


def test_a_second_build_is_a_look_up(built):
    steps = []
    assert (
        tiny.build(built.parent, seed=3, recipe=SMALL, progress=lambda *a: steps.append(a)) == built
    )
    assert steps == []


def test_of_two_builders_one_trains_and_the_other_waits(tmp_path):
    steps = []
    with ThreadPoolExecutor(2) as pool:
        both = [
            pool.submit(tiny.build, tmp_path, 3, SMALL, lambda *a: steps.append(a))
            for _ in range(2)
        ]
    assert len({future.result() for future in both}) == 1 and len(steps) == SMALL.steps


def test_any_change_of_the_recipe_changes_the_name():
    names = {tiny.fingerprint(recipe, seed) for recipe in (tiny.Recipe(), SMALL) for seed in (0, 1)}
    assert len(names) == 4


def test_checkpoint_loads_and_sees_sixteen_image_tokens(built):
    processor = load_processor(str(built))
    policy = load_policy(str(built))
    prompt = encode(processor, draw(scenes.scene_at("heldout", 0, 0)[0]), "tiny", 200_000)
    assert prompt.ids.count(policy.network.config.image_token_id) == 16
    assert prompt.image_grid_thw.tolist() == [[1, 8, 8]]
    assert policy.network.config.text_config.eos_token_id == processor.tokenizer.eos_token_id


def test_hedges_are_single_tokens_that_no_committed_text_uses(built):
    tokenizer = load_processor(str(built)).tokenizer
    assert len(set(tiny.hedge_ids(tokenizer))) == len(hedges()) >= 4
    assert set(hedges()) < set(phrases())
