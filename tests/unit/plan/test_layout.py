"""Whether a run fits on nodes: what is said is what packing shows, and what is advised does fit."""

from __future__ import annotations

import pytest
import yaml

from geoagent_rl.config import load
from geoagent_rl.config.describe import flat
from geoagent_rl.plan.estimate import make_plan
from geoagent_rl.plan.layout import fewest_nodes, fitting_values, node_sizes, packs
from geoagent_rl.plan.text import show
from geoagent_rl.types import UserError
from tests.support.paths import CONFIGS

SIZES = {  # where paper-NxGB.yaml may differ from paper.yaml
    "run.dir", "placement.gpu", "placement.colocate", "rollout.engines", "rollout.max_num_seqs",
    "rollout.memory", "rollout.gpus_per_engine", "rollout.tensor_parallel", "rollout.swap",
    "learner.ranks", "learner.gpus_per_rank", "learner.micro_batch_tokens", "judge.replicas",
    "judge.gpus_per_replica", "judge.memory", "judge.max_model_len",
    "judge.max_num_seqs",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        ("paper", "1x8"),
        ("paper-code", "1x8"),
        ("paper-8x80gb", "1x8"),
        ("paper-4x80gb", "1x4"),
        ("paper-1x80gb", "1x1"),
        ("single-gpu", "1x1"),
    ],
)
def test_a_configuration_fits_where_its_name_says(name, nodes):
    plan = make_plan(load(CONFIGS / f"{name}.yaml"), nodes=nodes)
    assert plan["gpus"]["fits"] and plan["gpus"]["override"] == []
    assert f"fits on {nodes}" in show(plan)
    assert all(row["fits"] for row in plan["roles"] if row["gpus"])
    assert plan["gpus"]["total"] == pytest.approx(sum(node_sizes(nodes)))


@pytest.mark.parametrize("name", ["paper-8x80gb", "paper-4x80gb", "paper-1x80gb"])
def test_the_papers_run_differs_by_its_sizes_alone(name):
    paper, sized = (
        flat(yaml.safe_load((CONFIGS / f"{n}.yaml").read_text())) for n in ("paper", name)
    )
    differing = {key for key in paper | sized if paper.get(key) != sized.get(key)}
    assert differing <= SIZES


@pytest.mark.parametrize("nodes", ["1x8", "1x4", "2x3", "1x3,1x1"])
def test_with_the_advised_values_it_fits(nodes):
    nine = ["rollout.engines=4"]
    values = fitting_values(load(CONFIGS / "paper.yaml", nine), node_sizes(nodes))
    assert values
    assert fitting_values(load(CONFIGS / "paper.yaml", nine + values), node_sizes(nodes)) == []


def test_fewer_engines_are_advised_before_fewer_ranks():
    plan = make_plan(load(CONFIGS / "paper.yaml", ["rollout.engines=4"]), nodes="1x8")
    assert plan["gpus"]["override"] == ["rollout.engines=3"]
    assert "does not fit on 1x8: with rollout.engines=3 it does" in show(plan)


def test_a_bundle_lies_on_one_node_and_a_share_on_one_gpu():
    assert packs([(1, 4), (1, 2)], [4, 4]) and not packs([(1, 4)], [3, 3])
    assert packs([(0.6, 1), (0.4, 1)], [1]) and packs([(0.6, 1), (0.6, 1)], [2])
    assert not packs([(0.6, 1), (0.6, 1)], [1]) and not packs([(1, 1), (0.1, 1)], [1])
    assert packs([(0.7, 2), (0.3, 1), (0.3, 1)], [2]) and not packs([(0.7, 2)], [1, 1])
    wide = load(
        CONFIGS / "paper.yaml", ["rollout.gpus_per_engine=16", "rollout.tensor_parallel=16"]
    )
    assert fewest_nodes(wide) == 0 and fitting_values(wide, [8, 8]) is None
    assert "larger than a node" in show(make_plan(wide))


@pytest.mark.parametrize("text", ["8", "1x0", "x8", "1x8;2", ""])
def test_what_is_no_list_of_nodes_is_the_users_error(text):
    with pytest.raises(UserError, match="as in 1x8"):
        node_sizes(text)
