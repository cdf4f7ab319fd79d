"""What a configuration's values must satisfy together; `config.load` applies it.

The range of a single value stands in its section."""

from __future__ import annotations

from importlib.util import find_spec

from geoagent_rl.config.addresses import check_addresses, check_no_secrets
from geoagent_rl.config.grpo import truncates
from geoagent_rl.config.messages import shown
from geoagent_rl.config.schedule import problem, values, with_values
from geoagent_rl.config.schema import Config
from geoagent_rl.metrics.table import TAKEN
from geoagent_rl.types import UserError

# vLLM makes room for these; adapters may be smaller
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


def validate(config: Config) -> None:
    """Raise UserError, in one line that names the keys to change, for the first broken rule."""
    check_no_secrets(config)
    check_addresses(config)
    check_data(config)
    check_lengths(config)
    check_rewards(config)
    check_spatial(config)
    check_answer(config)
    check_judge(config)
    check_replicas(config)
    check_learning(config)
    check_gpus(config)
    check_trackers(config)


def check_data(config: Config) -> None:
    """Check the photographs to train and to validate on, and their order."""
    if not config.data.manifest:
        raise UserError("configuration: data.manifest must be given")
    if config.curriculum.by and config.curriculum.stages == 1:
        raise UserError(
            f"curriculum.by={config.curriculum.by} orders stages: set curriculum.stages=2 or more"
        )
    if config.run.validate_every and not config.data.eval_manifest:
        raise UserError("run.validate_every needs pictures to validate on: set data.eval_manifest")
    if config.eval.completions > 1 and config.eval.temperature <= 0:
        raise UserError(
            "eval.completions above 1 are all alike at eval.temperature 0; set eval.temperature=0.7 "
            "or so"
        )


def check_lengths(config: Config) -> None:
    """Check lengths of answers and what they share with prompts; refills of a step."""
    rollout, judge = config.rollout, config.judge
    for name, tokens, length in (
        ("rollout", rollout.max_tokens, rollout.max_model_len),
        ("judge", judge.max_tokens, judge.max_model_len),
    ):
        if tokens >= length:
            raise UserError(
                f"{name}.max_tokens ({tokens}) leaves no room for a prompt in "
                f"{name}.max_model_len ({length})"
            )
    if config.rollout.dynamic_sampling and config.rollout.max_refills < 1:
        raise UserError("rollout.dynamic_sampling needs rollout.max_refills of at least 1")


def check_rewards(config: Config) -> None:
    """Check the parts of the reward: their names, and that one of them counts."""
    weights = vars(config.reward.weights)
    for name in config.reward.custom:
        if name in (*weights, *TAKEN) or not (name.isidentifier() and name.isascii()):
            raise UserError(f"reward.custom.{name}: give it another name, of letters, digits and _")
    unknown = set(config.reward.required) - set(weights) - set(config.reward.custom)
    if unknown:
        raise UserError(f"reward.required names unknown parts: {', '.join(sorted(unknown))}")
    if not any(weights.values()) and not any(own.weight for own in config.reward.custom.values()):
        raise UserError(
            "every weight of reward.weights is 0, so there is nothing to learn from; give a part a "
            "weight above 0"
        )


def check_spatial(config: Config) -> None:
    """Check the curve of the spatial reward, its gate and numbers that change with the step."""
    c = config.reward.spatial
    at = [km for km, _ in c.points]
    if c.shape in ("knots", "steps") and (not at or sorted(set(at)) != at):
        raise UserError(
            f"reward.spatial.shape={c.shape}: it needs reward.spatial.points, [km, value] by rising km"
        )
    if c.gate and len(c.gate) != 2:
        raise UserError("reward.spatial.gate needs two numbers: [country, place]")
    for schedule in config.reward.schedules:
        if fault := problem(schedule):
            raise UserError(fault)
    for step in (0, config.steps - 1):
        with_values(config.reward, values(config.reward.schedules, step))


def check_answer(config: Config) -> None:
    """Check what a form of the answer leaves to the rewards."""
    if config.policy.answer != "levels" and config.reward.weights.consistency:
        raise UserError(
            f"policy.answer={config.policy.answer} has no reasoned stages to judge: set "
            "reward.weights.consistency=0"
        )


def check_judge(config: Config) -> None:
    """Check what an endpoint and a cascade need besides."""
    if config.judge.endpoint.url and not config.judge.endpoint.model:
        raise UserError("judge.endpoint.url needs judge.endpoint.model, the model's name there")
    if config.judge.cascade.enabled and not config.judge.endpoint.url:
        raise UserError("judge.cascade.enabled needs the large judge: set judge.endpoint.url")


def check_replicas(config: Config) -> None:
    """Check the bounds of scaling by load."""
    for name, c in {"reward.geocoder": config.reward.geocoder, "judge": config.judge}.items():
        if c.max_replicas and not c.min_replicas <= c.replicas <= c.max_replicas:
            raise UserError(
                f"{name}.min_replicas ({c.min_replicas}) <= {name}.replicas ({c.replicas}) <= "
                f"{name}.max_replicas ({c.max_replicas}) must hold; max_replicas=0 switches scaling "
                "by load off"
            )


def check_learning(config: Config) -> None:
    """Refuse settings of the learner that are each sensible and together wrong.

    With top-p or top-k the sampler's log-probabilities are those of another, truncated
    distribution, useless in ratios and weights; on-policy nothing asks for them."""
    c = config.learner
    if truncates(config.rollout) and (config.max_staleness > 0 or c.importance != "none"):
        raise UserError(
            "rollout.top_p and rollout.top_k need max_staleness=0 and learner.importance=none: ratios "
            "against a truncated distribution are wrong"
        )
    if c.advantage == "gdpo" and c.overlong == "penalty":
        raise UserError(
            "learner.advantage=gdpo scales reward parts, and learner.overlong=penalty is none: set "
            "learner.overlong=keep or mask"
        )
    if config.rollout.swap == "adapter" and config.policy.lora_rank > LORA_RANKS[-1]:
        raise UserError(
            f"policy.lora_rank={config.policy.lora_rank} is more than an engine serves as an adapter "
            f"({LORA_RANKS[-1]}): lower it, or set rollout.swap=merged"
        )
    if c.importance != "none" and c.ratio_cap < 1:
        raise UserError(
            f"learner.ratio_cap must be at least 1 with learner.importance, not {c.ratio_cap}"
        )
    if config.max_staleness > 0 and c.importance == "none" and c.ratio_cap < 1 + c.clip_high:
        raise UserError(
            f"learner.ratio_cap ({c.ratio_cap}) must not be below 1 + learner.clip_high ({1 + c.clip_high}): it would "
            "truncate ratios that the clip lets pass"
        )
    if config.max_staleness > 0 and c.importance != "none" and c.ratio == "sequence":
        raise UserError(
            "learner.ratio=sequence does nothing with learner.importance (the ratio is 1): set learner.importance=none "
            "for GSPO on stale samples"
        )


def check_gpus(config: Config) -> None:
    """Check the GPUs that an engine asks for and its tensor-parallel degree; who may share a GPU,
    and how much of it."""
    rollout, judge, placement = config.rollout, config.judge, config.placement
    for name, section, gpus, key in (
        ("rollout", rollout, rollout.gpus_per_engine, "gpus_per_engine"),
        ("judge", judge, judge.gpus_per_replica, "gpus_per_replica"),
    ):
        shared = section is rollout and placement.colocate  # a share of each of its GPUs
        if gpus > 0 and not shared and section.tensor_parallel != max(1, gpus):
            raise UserError(
                f"{name}.{key}={gpus:g} and {name}.tensor_parallel={section.tensor_parallel} do not go together: an "
                "engine uses as many GPUs as its tensor-parallel degree, or a share of one"
            )
        if gpus > 0 and section.memory > 1:
            raise UserError(
                f"{name}.memory={section.memory:g} is a share of the GPU's memory where {name}.{key} "
                "is above 0: at most 1"
            )
        if 0 < gpus < 1 and section.memory > gpus and not placement.colocate:
            raise UserError(
                f"{name}.memory={section.memory:g} is more than the engine's share of a GPU ({name}.{key}={gpus:g}): "
                f"others have the rest; lower {name}.memory"
            )
    if not placement.colocate:
        return
    together = rollout.gpus_per_engine + config.learner.gpus_per_rank
    ranks = rollout.engines * rollout.tensor_parallel
    if config.learner.ranks != ranks or not 0.5 < together <= 1:
        raise UserError(
            "placement.colocate puts a learner rank on every GPU of every engine: it needs learner.ranks = "
            f"rollout.engines x rollout.tensor_parallel = {ranks} (not {config.learner.ranks}), and shares of a GPU, "
            f"rollout.gpus_per_engine + learner.gpus_per_rank, above 0.5 and at most 1 (not {together:g})"
        )
    if config.max_staleness > 0:
        raise UserError(
            "placement.colocate needs max_staleness=0: nothing is generated while the engine sleeps"
        )


def check_trackers(config: Config) -> None:
    """Check trackers at once, not after minutes of starting engines."""
    for package, asked, name in (
        ("wandb", config.run.wandb, "Weights & Biases"),
        ("mlflow", config.run.mlflow, "MLflow"),
        ("trackio", config.run.trackio, "trackio"),
    ):
        found = find_spec(package) if asked else None
        if asked and (found is None or found.origin is None):  # no origin: some folder of that name
            raise UserError(
                f"run.{package}={shown(asked)} needs {name}, which is not installed: "
                f"pip install {package}, or leave run.{package} empty"
            )
