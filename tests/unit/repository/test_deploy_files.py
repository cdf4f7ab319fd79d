"""Images, Compose, KubeRay and `ray up` files: linted, checked against schemas, true to this
project's own settings.

Nothing here builds an image or starts a container.
"""

import re
import shlex
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement

from geoagent_rl import config as configuration
from tests.support.deploy_schemas import COMPOSE, kubernetes
from tests.support.paths import ROOT

DOCKER, KUBERAY = ROOT / "docker", ROOT / "cluster" / "kuberay"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
IMAGES = {f"geoagent-rl:{PROJECT['version']}-{kind}" for kind in ("cpu", "gpu")}


def kubernetes_files():
    return [
        doc
        for file in sorted(KUBERAY.glob("*.yaml"))
        for doc in yaml.safe_load_all(file.read_text())
    ]


def ray_job():
    return next(doc for doc in kubernetes_files() if doc["kind"] == "RayJob")


def groups():
    cluster = ray_job()["spec"]["rayClusterSpec"]
    return {
        "head": cluster["headGroupSpec"],
        **{group["groupName"]: group for group in cluster["workerGroupSpecs"]},
    }


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_dockerfiles_are_linted_pinned_and_run_as_nobody(kind):
    file = DOCKER / f"Dockerfile.{kind}"
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, "--no-color", file], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stdout
    text = file.read_text()
    assert re.findall(r"^USER (\S+)", text, re.M) == ["10001"] and "HEALTHCHECK" in text
    assert all(":3.11." in line for line in re.findall(r"^FROM (\S+)", text, re.M))
    assert f"-c constraints-{kind}.txt" in text and f'".[{kind}]"' in text
    copied = {
        name
        for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.M)
        for name in line.split()
    }
    assert all((ROOT / name).exists() for name in copied)
    kept = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    assert copied <= kept


def test_images_of_others_are_named_by_digest():
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    used = [re.sub(r"\$\{\w+:-(.+)\}", r"\1", one["image"]) for one in compose.values()]
    used += re.findall(r"image: (\S+)", "".join(f.read_text() for f in KUBERAY.glob("*.yaml")))
    used += re.findall(r"^FROM (\S+)", "".join(f.read_text() for f in DOCKER.glob("D*")), re.M)
    others = {image for image in used if image not in IMAGES}
    assert len(others) == 2  # one Redis and one Python, everywhere
    assert all(re.search(r":[\w.-]+@sha256:[0-9a-f]{64}$", image) for image in others)


def test_compose_is_valid_and_closed():
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    jsonschema.validate(compose, COMPOSE)
    services = compose["services"]
    assert {name for name, one in services.items() if "ports" in one} == {"head"}
    for one in services.values():
        assert set(one["secrets"]) <= set(compose["secrets"]) and set(one["networks"]) <= set(
            compose["networks"]
        )
        assert {volume.split(":")[0] for volume in one["volumes"]} <= set(compose["volumes"])
    ignored = subprocess.run(
        ["git", "check-ignore", "-q", "docker/secrets/ray_token"], cwd=ROOT, timeout=30
    )
    assert ignored.returncode in (0, 128)  # 128: not a git checkout


def test_the_secrets_that_compose_makes_can_be_read_by_its_containers_only(tmp_path):
    """Containers run as other users; on the host only the directory keeps others out."""
    head = (DOCKER / "compose.yaml").read_text().split("\nname:")[0]
    command = head[head.index("mkdir") : head.index("done") + 4].replace("\n#", "\n")
    (tmp_path / "docker").mkdir()
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True, timeout=30)
    folder = tmp_path / "docker" / "secrets"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    names = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
    assert names == dict.fromkeys(
        yaml.safe_load((DOCKER / "compose.yaml").read_text())["secrets"], 0o444
    )
    assert len({file.read_text() for file in folder.iterdir()}) == len(names)


def test_cloud_nodes_have_no_public_address_and_identities_of_their_own():
    made = yaml.safe_load((ROOT / "cluster" / "ray-cluster.yaml").read_text())
    assert made["provider"]["use_internal_ips"] is True
    for node in made["available_node_types"].values():
        assert node["node_config"]["MetadataOptions"]["HttpTokens"] == "required"
        assert node["node_config"]["IamInstanceProfile"]["Name"].startswith("geoagent-")


@pytest.mark.parametrize(
    "document", kubernetes_files(), ids=lambda d: f"{d['kind']}/{d['metadata']['name']}"
)
def test_kubernetes_files_have_only_known_fields(document):
    jsonschema.validate(document, kubernetes(f"{document['apiVersion']}/{document['kind']}"))


def test_the_schema_would_notice_a_misspelt_field():
    job = ray_job()
    job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["maxReplica"] = 3
    with pytest.raises(jsonschema.ValidationError, match="maxReplica"):
        jsonschema.validate(job, kubernetes("ray.io/v1/RayJob"))


def test_pods_find_their_volumes_and_the_job_its_configuration():
    for group in groups().values():
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            assert container["image"] in IMAGES
    words = shlex.split(ray_job()["spec"]["entrypoint"])
    assert words[:4] == ["geoagent-rl", "train", "--resume=auto", "--config"]
    path = ROOT / words[4].removeprefix("/app/")
    config = configuration.load(path, words[5:])
    assert config.run.dir  # the same at every start
    reward = groups()["reward"]["rayStartParams"]["resources"]
    assert config.reward.geocoder.nodes in reward and config.placement.wait_s > 0
    assert config.reward.cache.url.startswith("rediss://geoagent-redis:")


def test_only_rays_own_pods_the_submitter_and_the_operator_reach_ray():
    policies = [doc for doc in kubernetes_files() if doc["kind"] == "NetworkPolicy"]
    (ray,) = [doc["spec"] for doc in policies if doc["metadata"]["name"] == "geoagent-ray"]
    nodes, clients = ray["ingress"]
    assert nodes == {"from": [{"podSelector": ray["podSelector"]}]}
    assert clients["ports"] == [{"protocol": "TCP", "port": 8265}]
    label = ray_job()["spec"]["submitterPodTemplate"]["metadata"]["labels"]
    assert clients["from"][0] == {"podSelector": {"matchLabels": label}}


def test_a_stopped_job_has_time_to_save_and_a_lost_one_starts_again():
    spec = ray_job()["spec"]
    stop_s = int(yaml.safe_load(spec["runtimeEnvYAML"])["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"])
    pods = [group["template"]["spec"] for group in groups().values()]
    assert all(pod["terminationGracePeriodSeconds"] > stop_s for pod in pods)
    assert spec["backoffLimit"] > 0 and spec["shutdownAfterJobFinishes"]


def test_only_the_driver_and_reward_nodes_have_the_geocoders_key():
    def keys(pod):
        (secret,) = [volume for volume in pod["volumes"] if volume["name"] == "secrets"]
        return secret["secret"].get("items")

    for name, group in groups().items():
        pod = group["template"]["spec"]
        names = {env["name"] for env in pod["containers"][0]["env"]}
        everything = keys(pod) is None
        assert everything == ("OPENCAGE_API_KEY_FILE" in names) == (name != "gpu")


def test_gpu_and_reward_nodes_scale_apart_and_hold_the_papers_layout():
    gpu, reward = groups()["gpu"], groups()["reward"]
    per_pod = int(gpu["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"])
    assert gpu["maxReplicas"] * per_pod >= 9 and reward["minReplicas"] < reward["maxReplicas"]
    assert (
        "nvidia.com/gpu" not in reward["template"]["spec"]["containers"][0]["resources"]["limits"]
    )


def test_no_file_holds_a_secret():
    files = [*DOCKER.iterdir(), *KUBERAY.iterdir(), ROOT / "cluster" / "ray-cluster.yaml"]
    literal = re.compile(r"(?i)(password|token|api_key|secret)\s*[:=]\s*[\"']?[A-Za-z0-9+/_-]{16,}")
    assert not [f.name for f in files if f.is_file() and literal.search(f.read_text())]


def test_versions_are_the_projects():
    (ray_pin,) = [Requirement(text) for text in PROJECT["dependencies"] if text.startswith("ray[")]
    assert str(ray_pin.specifier) == f"=={ray_job()['spec']['rayClusterSpec']['rayVersion']}"
    launcher = (ROOT / "cluster" / "ray-cluster.yaml").read_text()
    assert set(re.findall(r"geoagent-rl:\S+", launcher)) == IMAGES


def ray_start_options():
    """Every option that these files give to `ray start`."""
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    launcher = yaml.safe_load((ROOT / "cluster" / "ray-cluster.yaml").read_text())
    words = [word for name in ("head", "reward") for word in compose[name]["command"]]
    words += " ".join(
        launcher["head_start_ray_commands"] + launcher["worker_start_ray_commands"]
    ).split()
    given = [word.split("=")[0] for word in words if word.startswith("--")]
    return sorted(
        {*given, *(f"--{name}" for group in groups().values() for name in group["rayStartParams"])}
    )


def test_ray_accepts_its_options_and_ray_up_its_file():
    """In a process of its own: it imports Ray."""
    code = (
        "import sys, yaml; from ray.autoscaler._private.util import prepare_config, validate_config\n"
        "from ray.scripts.scripts import start\n"
        "made = prepare_config(yaml.safe_load(open(sys.argv[1]))); validate_config(made)\n"
        "known = {name for option in start.params for name in option.opts}\n"
        "print(sorted(made['available_node_types']), [given for given in sys.argv[2:] if given not in known])"
    )
    options = ray_start_options()
    command = [sys.executable, "-c", code, str(ROOT / "cluster" / "ray-cluster.yaml"), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=28)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "['gpu', 'head', 'reward'] []" and len(options) > 6
