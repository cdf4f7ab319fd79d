import pytest

from geoagent_rl import config as configuration
from geoagent_rl.types import UserError


def refusal(*overrides, path=None):
    with pytest.raises(UserError) as caught:
        configuration.load(path, ["data.manifest=x", *overrides])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_overrides_win_over_the_file_and_the_file_over_defaults(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("steps: 7\nrollout: {engines: 2, group_size: 4}\n")
    config = configuration.load(file, ["data.manifest=x", "rollout.engines=3"])
    assert (
        config.steps,
        config.rollout.engines,
        config.rollout.group_size,
        config.rollout.temperature,
    ) == (
        7,
        3,
        4,
        0.7,
    )


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("rolout.engines=2", "rollout.engines"),
        ("engines=2", "rollout.engines"),
        ("reward.spatial.tau=3", "reward.spatial.tau_km"),
        ("max_stalenes=1", "max_staleness"),
    ],
)
def test_an_unknown_key_names_the_nearest(wrong, nearest):
    assert f"did you mean {nearest!r}" in refusal(wrong)


def test_an_unknown_key_in_a_file_is_an_error_too(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("learner: {learning_rate: 1}\n")
    assert "learner.learning_rate" in refusal(path=file)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("rollout.engines=many", "many"),
        ("rollout.group_size=1", "at least 2"),
        ("rollout.temperature=0", "greater than 0"),
        ("rollout.swap=magic", "adapter, merged"),
        ("reward.cache.url=localhost:6379", "embedded, off, redis://"),
        ("max_staleness=-1", "0 or more"),
        ("reward.required=[taste]", "taste"),
        ("reward.spatial.truth=guessed", "coordinates, geocoded"),
        ("reward.exact_match.style=loose", "globe, gre, geovista"),
        ("reward.consistency.against=both", "own, truth"),
        ("steps", "section.key=value"),
        ("learner.loss=ppo", "grpo, dapo, dr_grpo, bnpo"),
        ("learner.ratio=word", "token, sequence"),
        ("learner.importance=off", "none, token, sequence"),
        ("learner.overlong=drop", "keep, mask, penalty"),
        ("learner.overlong_buffer=1.5", "at most 1"),
        ("learner.clip_low=1", "below 1"),
        ("learner.kl_beta=-1", "0 or more"),
        ("run.keep_checkpoints=0", "greater than 0"),
        ("rollout.max_tokens=4096", "no room for a prompt"),
        ("policy.dtype=bfloat16", "zero_stage 2 or 3"),
    ],
)
def test_wrong_values_are_refused_in_one_line(wrong, says):
    assert says in refusal(wrong)


def test_a_missing_file_and_broken_yaml_are_one_line(tmp_path):
    assert "no configuration file" in refusal(path=tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1\nb: 2")
    assert "not readable YAML" in refusal(path=broken)


def test_off_is_a_word_although_yaml_reads_it_as_false(tmp_path):
    (tmp_path / "c.yaml").write_text("data: {manifest: x}\nreward: {cache: {url: off}}\n")
    said = configuration.load(None, ["data.manifest=x", "reward.cache.url=off"])
    assert (
        said.reward.cache.url == configuration.load(tmp_path / "c.yaml").reward.cache.url == "off"
    )


def test_a_dump_loads_back_to_the_same_configuration(tmp_path):
    config = configuration.load(None, ["data.manifest=x", "learner.lr=0.5"])
    (tmp_path / "c.yaml").write_text(configuration.to_yaml(config))
    assert configuration.load(tmp_path / "c.yaml") == config


@pytest.mark.parametrize("name", ["local", "paper"])
def test_shipped_configurations_load(name, pytestconfig):
    configuration.load(pytestconfig.rootpath / "configs" / f"{name}.yaml", ["data.manifest=x"])


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (("rollout.dynamic_sampling=true", "rollout.max_refills=0"), "max_refills of at least 1"),
        (("max_staleness=1", "learner.ratio_cap=1.1"), "ratios that the clip lets pass"),
        (("learner.importance=token", "learner.ratio_cap=0.5"), "at least 1"),
        (("max_staleness=1", "learner.importance=token", "learner.ratio=sequence"), "does nothing"),
    ],
)
def test_values_that_contradict_each_other_are_refused(wrong, says):
    assert says in refusal(*wrong)


def test_values_that_only_look_contradictory_are_accepted():
    load = configuration.load
    load(None, ["data.manifest=x", "learner.ratio_cap=1.1"])  # on-policy: not used
    load(None, ["data.manifest=x", "policy.dtype=bfloat16", "learner.zero_stage=2"])
    load(
        None,
        [
            "data.manifest=x",
            "max_staleness=1",
            "learner.importance=sequence",
            "learner.ratio_cap=1.1",
        ],
    )
