"""Changes how many replicas of the reward services a live run has, while it trains and without
losing a request.

Serve starts the new replicas beside the old ones, and lets one that has to go finish what it was
asked. The change is Serve's target: it outlives the death of replicas, nodes and Serve's
controller, and ends with the run. May know Ray."""

from __future__ import annotations

import time
from collections.abc import Mapping

import ray
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve._private.common import DeploymentID
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE

from actors.serving import APPLICATIONS
from cluster.running import SCALABLE
from geoagent_rl.types import InfraError, UserError

SERVICES = dict(zip(SCALABLE, APPLICATIONS, strict=True))  # name on the command line -> application
POLL_S = 0.5  # asking keeps Serve's controller busy, which has replicas to start


def scale(run_id: str, wanted: Mapping[str, int], timeout_s: float = 120.0) -> dict[str, float]:
    """Set the numbers of replicas and wait until they run (timeout_s 0: does not wait). Returns for
    each service the seconds it took.

    Raises UserError where the run scales that service by load, or when the cluster has no room;
    what was asked for stays asked for then, and is there as soon as a node is added."""
    begin = time.monotonic()
    for service, number in wanted.items():
        set_target(run_id, service, number)
    took: dict[str, float] = {}
    while timeout_s > 0:
        for service, number in wanted.items():
            if service not in took and replicas(run_id, service) == {"RUNNING": number}:
                took[service] = time.monotonic() - begin
        if len(took) == len(wanted):
            return took
        if time.monotonic() - begin > timeout_s:
            missing = (
                f"{s}: {replicas(run_id, s).get('RUNNING', 0)} of {n}"
                for s, n in wanted.items()
                if s not in took
            )
            raise UserError(
                f"after {timeout_s:g} s there run {', '.join(missing)}; the cluster has "
                f"{ray.available_resources().get('CPU', 0.0):g} CPU free: add a node, or ask for fewer"
            )
        time.sleep(POLL_S)
    return took


def set_target(run_id: str, service: str, number: int) -> None:
    """Do what Serve's REST call `scale` does, which needs a dashboard."""
    deployment = DeploymentID(
        name=deployment_of(run_id, service), app_name=f"{run_id}-{SERVICES[service]}"
    )
    controller = ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
    try:
        ray.get(controller.update_deployment_replicas.remote(deployment, number), timeout=30.0)
    except RayTaskError as error:
        if type(error.cause).__name__ == "ExternalScalerDisabledError":
            key = "judge" if service == "judge" else "reward.geocoder"
            raise UserError(
                f"this run scales its {service} by load, up to {key}.max_replicas; start it with {key}.max_replicas=0 "
                "to scale it by hand"
            ) from None
        raise InfraError(f"Serve did not scale the {service}: {error.cause!r}") from error
    except RayError as error:
        raise InfraError(f"Serve did not scale the {service}: {error!r}") from error


def deployment_of(run_id: str, service: str) -> str:
    """Return the name of the deployment behind a service. UserError when it does not run."""
    application = serve.status().applications.get(f"{run_id}-{SERVICES[service]}")
    if application is None:
        raise UserError(f"the run has no {service} now")
    return next(iter(application.deployments))


def replicas(run_id: str, service: str) -> dict[str, int]:
    """Return how many replicas are in which state: {"RUNNING": 3, "STARTING": 1}."""
    application = serve.status().applications.get(f"{run_id}-{SERVICES[service]}")
    deployments = application.deployments.values() if application else ()
    return {state: n for d in deployments for state, n in d.replica_states.items() if n}
