"""CONTRIBUTING.md's recipes, carried out on a copy of the code: a reward, a loss, a geocoder, a
section of the report and an importer each need what the table there names, and no more."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

NEW = ""  # the edit makes the file
REWARD = {
    "geoagent_rl/rewards/brevity.py": (
        NEW,
        """
from geoagent_rl.types import Outcome

async def score(prompt, rollout, parsed, services, config):
    return Outcome("score", 1.0 / len(rollout.completion_ids))
""",
    ),
    "geoagent_rl/rewards/parts.py": (
        "PARTS: dict[str, Part] = {\n",
        "from geoagent_rl.rewards import brevity\n"
        'PARTS: dict[str, Part] = {\n    "brevity": brevity.score,\n',
    ),
    "geoagent_rl/config/reward.py": (
        "    spatial: NotNegative = key(1.5,",
        '    brevity: NotNegative = key(0.0, "Short answers.")\n    spatial: NotNegative = key(1.5,',
    ),
}
REWARD_USED = """
import asyncio
from geoagent_rl.config import load
from geoagent_rl.rewards.scorer import Scorer
from tests.support.reward_fakes import Fakes, PROMPT, rollout

config = load(None, ["data.manifest=x", "reward.weights.brevity=4"]).reward
plain = asyncio.run(Scorer(Fakes().services, load(None, ["data.manifest=x"]).reward).score(PROMPT, rollout()))
found = asyncio.run(Scorer(Fakes().services, config).score(PROMPT, rollout()))
assert found.parts["brevity"].score == 1 and abs(found.total - plain.total - 4) < 1e-9
"""
LOSS = {
    "geoagent_rl/grpo/loss.py": (
        "LOSSES = {\n",
        'LOSSES = {\n    "halved": Loss(token_sum, lambda n: 2 * n.tokens),\n',
    ),
    "geoagent_rl/config/grpo.py": ('loss: Literal["grpo",', 'loss: Literal["halved", "grpo",'),
}
LOSS_USED = """
import torch
from geoagent_rl.config import load
from geoagent_rl.grpo.loss import normaliser, unnormalised_loss

kind = load(None, ["data.manifest=x", "learner.loss=halved"]).learner.loss
total = unnormalised_loss(torch.ones(2, 3), torch.ones(2, 3), kind)
assert total / normaliser(kind, sequences=2, tokens=6, max_tokens=3) == 0.5
"""
GEOCODER = {
    "geoagent_rl/geo/providers/atlas.py": (
        NEW,
        """
from geopy.geocoders import Photon
from geoagent_rl.geo.providers.provider import Provider, match_of

def read(result):
    lon, lat = result["geometry"]["coordinates"]
    return match_of("atlas", lat, lon, "city", result["properties"]["name"], "", "DE")

PROVIDER = Provider(Photon, lambda document: document["features"], read)
""",
    ),
    "geoagent_rl/geo/providers/__init__.py": (
        "PROVIDERS: dict[str, Provider] = {\n",
        "from geoagent_rl.geo.providers import atlas\n"
        'PROVIDERS: dict[str, Provider] = {\n    "atlas": atlas.PROVIDER,\n',
    ),
    "geoagent_rl/config/services.py": (
        "    photon: PhotonConfig = field(default_factory=PhotonConfig)\n",
        "    photon: PhotonConfig = field(default_factory=PhotonConfig)\n"
        "    atlas: PhotonConfig = field(default_factory=PhotonConfig)\n",
    ),
}
GEOCODER_USED = """
import json
from geoagent_rl.config import load
from geoagent_rl.geo.lookup import lookup
from tests.support.geocoder_server import serving

assert load(None, ["data.manifest=x", "reward.geocoder.provider=[atlas,gazetteer]"])
found = {"geometry": {"coordinates": [11.5, 48.1]}, "properties": {"name": "Monaco di Baviera"}}
with serving(trouble=lambda *_: (200, {}, json.dumps({"features": [found]}))) as server:
    (match,) = lookup(["Munich"], "atlas", server.url)
assert (match.lat, match.name, match.provider) == (48.1, "Monaco di Baviera", "atlas")
"""
IMPORTER = {
    "geoagent_rl/data/importers/kinds.py": (
        '    Kind("exif"),\n',
        '    Kind("streets", ("streetkey",), {"uid": ("streetkey",)}, "Streets", "CC0"),\n'
        '    Kind("exif"),\n',
    ),
}
IMPORTER_USED = """
from pathlib import Path
from PIL import Image
from geoagent_rl.data.importers.run import Options, import_dataset

Image.new("RGB", (32, 32)).save("a.jpg")
Path("t.csv").write_text("Street-Key,image,lat,lon\\ns7,a.jpg,48.1,11.5\\n")
(sample,) = import_dataset(Path("t.csv"), Path("m.jsonl"), Options()).samples
assert sample.uid == "s7" and "s7" in Path("m.jsonl").read_text()
assert "Streets" in Path("m.jsonl").read_text() and "CC0" in Path("m.jsonl").read_text()
"""
SECTION = {
    "geoagent_rl/pages/run_steps.py": (
        NEW,
        """
def steps(run):
    return f"<h2>{len(run.metrics)} steps were taken</h2>"
""",
    ),
    "geoagent_rl/pages/report.py": (
        "SECTIONS: dict[str, Callable[[Recorded], str]] = {\n",
        "from geoagent_rl.pages import run_steps\n"
        'SECTIONS: dict[str, Callable[[Recorded], str]] = {\n    "steps": run_steps.steps,\n',
    ),
}
SECTION_USED = """
from pathlib import Path
from geoagent_rl.pages.report import write_report
from tests.support.monitor_runs import new_run, photograph, record

run = new_run(Path("made"))
record(run, photograph(Path("made/photos")), range(1, 4))
assert "3 steps were taken" in write_report(run.path).read_text()
"""
FAMILY = {
    "geoagent_rl/policy/families/atlas.py": (
        NEW,
        """
from geoagent_rl.policy.architecture import text_shape
from geoagent_rl.policy.families.family import Family

class Atlas(Family):
    title, banned = "Atlas", ("<image>",)

    def image_budget(self, own, max_pixels):
        return {}

    def shape(self, config):
        return text_shape(config["text_config"])
""",
    ),
    "geoagent_rl/policy/families/__init__.py": (
        "FAMILIES: dict[str, Family] = {\n",
        "from geoagent_rl.policy.families.atlas import Atlas\n"
        'FAMILIES: dict[str, Family] = {\n    "atlas": Atlas(),\n',
    ),
}
FAMILY_USED = """
import json
from pathlib import Path
from geoagent_rl.policy.families import family_of
from geoagent_rl.policy.sizes import architecture

text = {"model_type": "qwen3", "hidden_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
text |= {"intermediate_size": 128, "vocab_size": 100}
Path("made").mkdir()
Path("made/config.json").write_text(json.dumps({"model_type": "atlas", "text_config": text}))
assert family_of("made").title == "Atlas" and architecture("made", "policy.model").layers == 2
"""
RECIPES = {
    "a family of policies": (FAMILY, FAMILY_USED),
    "a reward": (REWARD, REWARD_USED),
    "a loss": (LOSS, LOSS_USED),
    "a geocoder": (GEOCODER, GEOCODER_USED),
    "a section of the report": (SECTION, SECTION_USED),
    "an importer": (IMPORTER, IMPORTER_USED),
}


@pytest.fixture
def copy(tmp_path) -> Path:
    """The packages and what their tests share, without git."""
    skipped = shutil.ignore_patterns("__pycache__")
    for name in ("geoagent_rl", "actors", "cluster", "tests/support"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=skipped)
    return tmp_path


@pytest.mark.timeout(120)
@pytest.mark.parametrize("what", RECIPES)
def test_a_recipe_leads_to_what_it_promises(what, copy):
    edits, used = RECIPES[what]
    for name, (old, new) in edits.items():
        file = copy / name
        text = "" if old == NEW else file.read_text()
        assert file.exists() == (old != NEW) and text.count(old) == 1, f"{name} has changed"
        file.write_text(text.replace(old, new))
    env = os.environ | {"PYTHONPATH": str(copy)}
    command = [sys.executable, "-c", f"import geoagent_rl; print(geoagent_rl.__file__)\n{used}"]
    done = subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith(str(copy))


def test_the_page_names_what_the_recipes_touch():
    page = (ROOT / "CONTRIBUTING.md").read_text()
    rows = [line.split("|") for line in page.split("## To add")[1].splitlines()]
    said = {row[1].strip(): f"{row[2]} {row[3]}" for row in rows if len(row) == 5}
    assert set(RECIPES) == said.keys() - {"", "---"}
    for what, (edits, _) in RECIPES.items():
        for name in edits:
            named = re.sub("brevity|atlas|steps", "NAME", name)
            assert "/".join(Path(named).parts[-2:]) in said[what], name
