import dataclasses
import operator
import pickle

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from geoagent_rl import config as configuration
from geoagent_rl.config.describe import keys
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
        ("rollout.engines=many", "rollout.engines must be a whole number greater than 0, not many"),
        ("steps=abc", "steps must be a whole number greater than 0, not abc"),
        ("steps=1.5", "a whole number greater than 0, not 1.5"),
        ("steps=", "not empty"),
        ("steps=[3]", "not [3]"),
        ("run.seed=-1", "run.seed must be a whole number of 0 or more"),
        ("sft.batch_size=0", "sft.batch_size must be a whole number greater than 0, not 0"),
        ("policy.max_pixels=0", "policy.max_pixels must be a whole number of at least 784, not 0"),
        ("policy.lora_alpha=0", "policy.lora_alpha must be a whole number greater than 0"),
        ("learner.lr=-1", "learner.lr must be a number greater than 0, not -1"),
        ("learner.lr=nan", "learner.lr must be a number greater than 0, not nan"),
        ("learner.lr=.inf", "not .inf"),
        ("learner.lr=inf", "not inf"),
        ("learner.betas=[0.9,1]", "learner.betas must be a list of 2, each a number of 0 or more"),
        ("learner.betas=0.9", "not 0.9"),
        ("learner.zero_stage=4", "learner.zero_stage must be one of 0, 1, 2, 3, not 4"),
        ("learner.share_prompts=maybe", "true or false, not maybe"),
        ("rollout.timeout_s=0", "greater than 0, not 0"),
        ("reward.deadline_s=-1", "greater than 0, not -1"),
        ("reward.max_unscorable_share=7", "at most 1, not 7"),
        ("reward.geocoder.photon.rate_per_s=-1", "greater than 0, not -1"),
        ("reward.weights.spatial=-1", "0 or more, not -1"),
        ("reward.geocoder=fast", "reward.geocoder must be a section with keys of its own"),
        ("reward.custom.mine.weight=1", "reward.custom.mine.function must be given"),
        ("steps=[1", "override 'steps=[1' is not readable"),
        ("run=x", "run must be a section"),
        ("run=[x]", "run must be a section with keys of its own, not [x]"),
        ("learner.betas={a: 1}", "learner.betas must be a list of 2"),
        ("learner.zero_stage=[]", "one of 0, 1, 2, 3, not []"),
        (
            "reward.schedules=[{of: x, stepps: 3}]",
            "unknown configuration key 'reward.schedules.0.st",
        ),
        ("reward.schedules=[{of: x, steps: 0}]", "reward.schedules.0.steps must be a whole number"),
        ("reward.schedules=[{of: '${oc.env:HOME}'}]", "nothing is taken from the environment"),
        ("run.wandb=a\nb", "run.wandb=a b needs"),
        ("run.dir=\0", "run.dir must be text without control characters"),
        ("run.dir=\ud800", "run.dir must be text without control characters"),
        ("run.dir=${", "configuration: "),
        ("reward.custom.total.function=m:f", "give it another name"),
        ("reward.custom.größe.function=m:f", "give it another name"),
        ("learner.betas[0]=0.5", "learner.betas"),
        ("steps.much=1", "steps must be a whole number greater than 0, not {'much'"),
        ("data.max_image_megapixels=[]", "not []"),
        ("rollout=", "rollout must be a section with keys of its own, not empty"),
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


@pytest.mark.parametrize("name", ["local", "paper", "paper-code", "single-gpu"])
def test_shipped_configurations_load(name, pytestconfig):
    configuration.load(pytestconfig.rootpath / "configs" / f"{name}.yaml")


TEXTS = ("20241126_01", "010", "12:30", "on", "null", "1e3", "runs/x #1", "a: b", "x=y", " {a}")


@pytest.mark.parametrize("text", TEXTS)
def test_text_is_taken_as_it_is_written(text, tmp_path):
    config = configuration.load(None, ["data.manifest=x", f"run.dir={text}"])
    assert config.run.dir == text
    (tmp_path / "kept.yaml").write_text(configuration.to_yaml(config))
    assert configuration.load(tmp_path / "kept.yaml").run.dir == text


@given(
    st.text(
        st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])
        | st.sampled_from("${}\\:\n'\"")
    )
)
@settings(max_examples=50, deadline=None)
def test_any_text_survives_the_file_that_a_run_writes(tmp_path_factory, text):
    config = configuration.load(None, ["data.manifest=x"])
    config.policy.architecture = text
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(configuration.to_yaml(config), encoding="utf-8")
    assert configuration.load(file).policy.architecture == text


@pytest.mark.parametrize("text", ["20241126_01", "010", "12:30", "on", "1e3", "2024-11-26"])
def test_text_in_a_file_is_taken_as_it_is_written(text, tmp_path):
    (tmp_path / "c.yaml").write_text(f"data: {{manifest: {text}}}")
    assert configuration.load(tmp_path / "c.yaml").data.manifest == text


def test_quotes_round_an_override_are_not_part_of_it():
    config = configuration.load(None, ["data.manifest='a b'", 'run.dir=""'])
    assert (config.data.manifest, config.run.dir) == ("a b", "")


def test_numbers_and_lists_are_read_as_ever(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "data: {manifest: x}\nlearner: {lr: 1e-4, share_prompts: no, betas: [0.8, 9.0e-1]}\n"
    )
    words = ["steps=1_000", "reward.required=['format']", "reward.weights={semantic: 0}"]
    config = configuration.load(tmp_path / "c.yaml", words)
    assert (config.learner.lr, config.learner.betas) == (1e-4, (0.8, 0.9))
    assert not config.learner.share_prompts and config.steps == 1000
    assert config.reward.required == ("format",)
    assert (config.reward.weights.semantic, config.reward.weights.spatial) == (0.0, 1.5)


PATHS = ("run.dir", "data.manifest", "data.eval_manifest", "policy.model", "sft.manifest")
PATHS += ("reward.encoder.model", "reward.cache.dir", "judge.model")


@pytest.mark.parametrize("name", PATHS)
def test_the_home_directory_is_found_in_every_path(name, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = configuration.load(None, ["data.manifest=x", f"{name}=~/x"])
    assert operator.attrgetter(name)(config) == str(tmp_path / "x")


def test_the_home_directory_is_found_in_the_address_of_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    url = "rediss://h:6380/0?ssl_ca_certs="
    config = configuration.load(None, ["data.manifest=x", f"reward.cache.url={url}~/ca.crt&db=1"])
    assert config.reward.cache.url == f"{url}{tmp_path}/ca.crt&db=1"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("run: {dir: null}", "run.dir must be text, not null"),
        ("run:", "run must be a section with keys of its own, not null"),
        ("- run", "holds no section.key values"),
        ("steps: 1\nsteps: 2", "'steps' is given twice"),
        ("steps: !!python/name:os.system", "not readable YAML"),
        ("learner: {lr: .nan}", "learner.lr must be a number greater than 0, not .nan"),
        ("policy: &p {model: *p}", "not readable YAML"),
    ],
)
def test_files_that_say_nothing_sensible_are_one_line(text, says, tmp_path):
    (tmp_path / "c.yaml").write_text(text)
    assert says in refusal(path=tmp_path / "c.yaml")


def test_a_key_takes_the_value_of_another_but_never_one_of_the_environment(monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "hunter2")
    config = configuration.load(None, ["data.manifest=x", "run.dir=runs/${run.seed}"])
    assert config.run.dir == "runs/0"
    asking = ("${oc.env:SECRET_KEY}", "runs/${oc.env:SECRET_KEY,x}", "${a.${oc.env:HOME}}")
    for value in (*asking, r"\\${oc.env:SECRET_KEY}"):
        said = refusal(f"run.dir={value}")
        assert "nothing is taken from the environment" in said and "hunter2" not in said
    assert "reward.required" in refusal("reward.required=['${oc.env:HOME}']")
    assert "nowhere" in refusal("run.dir=${nowhere}")


def test_rewards_that_are_all_worth_nothing_are_refused():
    weights = vars(configuration.Config().reward.weights)
    nothing = [f"reward.weights.{name}=0" for name in weights]
    assert "reward.weights" in refusal(*nothing)
    own = ["reward.custom.mine.function=m:f", "reward.custom.mine.weight=1"]
    configuration.load(None, ["data.manifest=x", *nothing, *own])


def test_every_key_has_a_meaning_and_every_number_a_range():
    for name, schema in keys():
        assert schema["description"].rstrip().endswith("."), name
        if schema.get("type") in ("number", "integer") and "enum" not in schema:
            assert {"minimum", "exclusiveMinimum"} & schema.keys(), name


def test_a_configuration_is_a_dataclass_that_travels():
    config = configuration.load(None, ["data.manifest=x", "reward.custom.mine.function=m:f"])
    assert pickle.loads(pickle.dumps(config)) == config
    assert dataclasses.replace(config, steps=3).steps == 3
    assert dataclasses.asdict(config)["reward"]["custom"] == {
        "mine": {"function": "m:f", "weight": 1.0}
    }


# Written at commit 7ba7fae, shortened to what is peculiar about such files.
OLD = """
steps: 3
max_staleness: 0
run:
  dir: /data/run
  wandb: ''
data:
  manifest: /data/streetview
  max_image_megapixels: 80.0
rollout:
  gpus_per_engine: 0.0
  temperature: 0.7
  dynamic_sampling: false
learner:
  zero_stage: 0
  betas:
  - 0.9
  - 0.99
reward:
  required:
  - spatial
  - format
  custom: {}
  geocoder:
    provider: gazetteer
    opencage:
      api_key_env:
      - OPENCAGE_API_KEY
    replicas: 1
    max_replicas: 0
    min_replicas: 1
    target_ongoing: 2.0
    idle_s: 60.0
    cpus_per_replica: 0.2
    nodes: ''
  cache:
    url: embedded
    negative_ttl_s: 2592000.0
judge:
  model: tiny
  replicas: 1
  target_ongoing: 4.0
  idle_s: 300.0
"""


def test_a_file_that_an_earlier_version_wrote_is_read(tmp_path):
    (tmp_path / "config.yaml").write_text(OLD)
    config = configuration.load(tmp_path / "config.yaml")
    assert (config.run.dir, config.learner.betas) == ("/data/run", (0.9, 0.99))
    assert (config.reward.required, config.judge.idle_s) == (("spatial", "format"), 300.0)
    written = configuration.flat(yaml.safe_load(configuration.to_yaml(config)))
    assert configuration.flat(yaml.safe_load(OLD)).items() <= written.items()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (("curriculum.by=reward_std",), "set curriculum.stages=2 or more"),
        (("rollout.dynamic_sampling=true", "rollout.max_refills=0"), "max_refills of at least 1"),
        (("max_staleness=1", "learner.ratio_cap=1.1"), "ratios that the clip lets pass"),
        (("learner.importance=token", "learner.ratio_cap=0.5"), "at least 1"),
        (("max_staleness=1", "rollout.top_p=0.9"), "need max_staleness=0"),
        (("learner.importance=token", "rollout.top_k=50"), "need max_staleness=0"),
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
