"""What a run asks Ray's placement groups for. No Ray is running here."""

from types import SimpleNamespace

import pytest

from cluster import placement
from geoagent_rl.config import load
from geoagent_rl.plan.resources import roles
from tests.support.paths import CONFIGS


@pytest.fixture
def asked(monkeypatch):
    found = []

    def group(bundles, strategy, name):
        found.append(SimpleNamespace(bundles=bundles, strategy=strategy, name=name))
        return found[-1]

    monkeypatch.setattr(placement, "placement_group", group)
    return found


def where(strategy):
    return strategy.placement_group.name, strategy.placement_group_bundle_index


def test_pools_have_a_group_each(asked):
    config = load(CONFIGS / "paper.yaml")
    place = placement.separate_places(roles(config)[:2], "run")
    assert [where(s) for s in place.ranks] == [("learner-run", i) for i in range(4)]
    engines = [where(place.engine_options(i)["scheduling_strategy"]) for i in range(3)]
    assert engines == [("engines-run", i) for i in range(3)]
    assert place.groups == asked and {group.strategy for group in asked} == {"PACK"}
    alone = placement.separate_places(roles(config, only_learner=True), "sft")
    assert len(alone.ranks) == 4 and not alone.engines


def test_an_engine_is_on_one_node_with_a_rank_on_each_of_its_gpus(asked):
    config = load(CONFIGS / "paper-8x80gb.yaml")
    place = placement.shared_places(config, "run")
    assert [group.strategy for group in asked] == ["STRICT_PACK"] * 2
    assert [len(group.bundles) for group in asked] == [4, 4]
    for bundle in (b for group in asked for b in group.bundles):
        assert bundle["GPU"] == pytest.approx(0.7)  # the judge has the rest
        assert bundle["CPU"] >= config.learner.cpus_per_rank
    assert [s for engine in place.engines for s in engine] == place.ranks
    cpus = sum(bundle["CPU"] for group in asked for bundle in group.bundles)
    assert cpus == 2 * config.rollout.cpus_per_engine + 8 * config.learner.cpus_per_rank
