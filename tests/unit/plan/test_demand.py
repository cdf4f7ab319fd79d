"""What cannot fit is refused with what was asked, what there is, and the value to change."""

import pytest

from geoagent_rl.config import Config
from geoagent_rl.plan.resources import Cluster, check, roles
from geoagent_rl.types import UserError

GPU_NODE = {"CPU": 32.0, "GPU": 8.0}
SMALL_GPU_NODE = {"CPU": 16.0, "GPU": 4.0}
REWARD_NODE = {"CPU": 8.0, "reward_node": 1.0}


def paper():
    config = Config()
    config.rollout.engines, config.rollout.gpus_per_engine, config.rollout.cpus_per_engine = 4, 1, 4
    config.learner.ranks, config.learner.gpus_per_rank, config.learner.cpus_per_rank = 4, 1, 4
    config.judge.gpus_per_replica = 1
    config.reward.geocoder.replicas, config.reward.geocoder.nodes = 8, "reward_node"
    return config


def refusal(config, *nodes, labels=None, only_learner=False):
    cluster = Cluster(nodes, labels or [{}] * len(nodes))
    with pytest.raises(UserError) as caught:
        check(roles(config, only_learner), cluster)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_papers_layout_fits_two_gpu_nodes_and_a_reward_node():
    check(roles(paper()), Cluster([GPU_NODE, SMALL_GPU_NODE, REWARD_NODE], [{}] * 3))


def test_too_few_gpus_name_every_lever():
    said = refusal(paper(), GPU_NODE, REWARD_NODE)
    assert "asks for 9 GPU" in said and "with 8 GPU" in said
    assert all(x in said for x in ("rollout.engines=4", "learner.ranks=4", "judge.replicas=1"))


def test_an_engine_wider_than_any_node_names_its_key():
    config = paper()
    config.rollout.gpus_per_engine = 16
    said = refusal(config, GPU_NODE, GPU_NODE, GPU_NODE, REWARD_NODE)
    assert (
        "16 GPU on one node" in said
        and "largest such node has 8" in said
        and "rollout.gpus_per_engine" in said
    )


def test_no_node_for_reward_workers():
    assert "reward.geocoder.nodes" in refusal(paper(), GPU_NODE, SMALL_GPU_NODE)
    config = paper()
    config.reward.geocoder.nodes = "role=reward"
    said = refusal(config, GPU_NODE, SMALL_GPU_NODE, labels=[{"role": "train"}, {}])
    assert "'role=reward'" in said
    check(
        roles(config),
        Cluster([GPU_NODE, SMALL_GPU_NODE, {"CPU": 4.0}], [{}, {}, {"role": "reward"}]),
    )


def test_sft_asks_for_the_learner_alone():
    check(roles(paper(), only_learner=True), Cluster([SMALL_GPU_NODE], [{}]))
    said = refusal(paper(), {"CPU": 4.0}, only_learner=True)
    assert "learner.gpus_per_rank" in said and "rollout" not in said


def test_shares_of_a_gpu_add_up():
    config = Config()
    config.rollout.gpus_per_engine, config.learner.gpus_per_rank, config.judge.gpus_per_replica = (
        0.45,
        0.35,
        0.2,
    )
    check(roles(config), Cluster([{"CPU": 8.0, "GPU": 1.0}], [{}]))
    config.judge.gpus_per_replica = 0.3
    assert "1.1 GPU" in refusal(config, {"CPU": 8.0, "GPU": 1.0})
