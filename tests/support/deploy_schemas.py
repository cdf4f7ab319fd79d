"""Strict schemas of the fields that this project's Compose and Kubernetes files use, from the
published references (KubeRay v1 API, Kubernetes core/v1, Compose specification): an unknown or
misspelt field is an error."""

from __future__ import annotations

from typing import Any

TEXT: dict[str, Any] = {"type": "string"}
NAME = {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"}
COUNT = {"type": "integer", "minimum": 0}
FLAG = {"type": "boolean"}
QUANTITY = {"type": "string", "pattern": r"^\d+(\.\d+)?(m|Ki|Mi|Gi|Ti)?$"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
MODE = {"type": "integer", "minimum": 0, "maximum": 0o777}


def fields(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    """An object with these fields and no others. An underscore at the end of a name avoids Python's
    keywords.
    """
    known = {name.rstrip("_"): schema for name, schema in {**required, **optional}.items()}
    need = [name.rstrip("_") for name in required]
    return {"type": "object", "properties": known, "required": need, "additionalProperties": False}


def many(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": schema, "minItems": 1}


def mapping(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": schema, "minProperties": 1}


AMOUNTS = {
    "type": "object",
    "propertyNames": {"enum": ["cpu", "memory", "nvidia.com/gpu", "storage"]},
}
AMOUNTS["additionalProperties"] = QUANTITY
RESOURCES = fields({"requests": AMOUNTS}, limits=AMOUNTS)
ITEMS = many(fields({"key": TEXT, "path": TEXT}))
VOLUME = fields(
    {"name": NAME},
    persistentVolumeClaim=fields({"claimName": NAME}),
    secret=fields({"secretName": NAME}, defaultMode=MODE, items=ITEMS),
    emptyDir=fields({}, medium={"enum": ["Memory", ""]}, sizeLimit=QUANTITY),
)
PROBE = fields(
    {"tcpSocket": fields({"port": COUNT})}, periodSeconds=COUNT, initialDelaySeconds=COUNT
)
LOCKED = fields(
    {
        "allowPrivilegeEscalation": {"const": False},
        "capabilities": fields({"drop": {"const": ["ALL"]}}),
    },
    readOnlyRootFilesystem=FLAG,
)
IMAGE = r"[a-z0-9./-]+:(?!latest)[\w.-]+(@sha256:[0-9a-f]{64})?"
CONTAINER = fields(
    {
        "name": NAME,
        "image": {"type": "string", "pattern": rf"^{IMAGE}$"},
        "resources": RESOURCES,
        "securityContext": LOCKED,
    },
    command=many(TEXT),
    args=many(TEXT),
    env=many(fields({"name": TEXT, "value": TEXT})),
    ports=many(fields({"containerPort": COUNT}, name=NAME)),
    volumeMounts=many(fields({"name": NAME, "mountPath": TEXT}, readOnly=FLAG)),
    readinessProbe=PROBE,
    livenessProbe=PROBE,
)
POD = fields(
    {
        "containers": many(CONTAINER),
        "securityContext": fields(
            {
                "runAsNonRoot": {"const": True},
                "runAsUser": COUNT,
                "fsGroup": COUNT,
                "seccompProfile": fields({"type": {"const": "RuntimeDefault"}}),
            }
        ),
    },
    restartPolicy={"enum": ["Never", "OnFailure"]},
    terminationGracePeriodSeconds=COUNT,
    volumes=many(VOLUME),
    tolerations=many(
        fields({"key": TEXT, "operator": {"enum": ["Exists", "Equal"]}, "effect": TEXT})
    ),
    automountServiceAccountToken=FLAG,
)
RAY_POD = fields({"spec": POD}, metadata=fields({"labels": TEXTS}))
WORKER_GROUP = fields(
    {
        "groupName": NAME,
        "replicas": COUNT,
        "minReplicas": COUNT,
        "maxReplicas": COUNT,
        "rayStartParams": TEXTS,
        "template": RAY_POD,
    }
)
AUTOSCALER = fields(
    {"resources": RESOURCES},
    upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
    idleTimeoutSeconds=COUNT,
)
RAY_CLUSTER = fields(
    {
        "rayVersion": TEXT,
        "authOptions": fields({"mode": {"const": "token"}}, secretName=NAME),
        "headGroupSpec": fields({"rayStartParams": TEXTS, "template": RAY_POD}),
        "workerGroupSpecs": many(WORKER_GROUP),
    },
    enableInTreeAutoscaling=FLAG,
    autoscalerOptions=AUTOSCALER,
)
RAY_JOB = fields(
    {"entrypoint": TEXT, "rayClusterSpec": RAY_CLUSTER, "submitterPodTemplate": RAY_POD},
    runtimeEnvYAML=TEXT,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
    backoffLimit=COUNT,
    shutdownAfterJobFinishes=FLAG,
    ttlSecondsAfterFinished=COUNT,
)
SELECTOR = fields({"matchLabels": TEXTS})
SERVICE = fields(
    {"selector": TEXTS, "ports": many(fields({"port": COUNT, "targetPort": COUNT}, name=NAME))}
)
CLAIM = fields(
    {
        "metadata": fields({"name": NAME}),
        "spec": fields(
            {
                "accessModes": many({"enum": ["ReadWriteOnce", "ReadWriteMany"]}),
                "resources": RESOURCES,
            }
        ),
    }
)
STATEFUL_SET = fields(
    {
        "serviceName": NAME,
        "replicas": COUNT,
        "selector": SELECTOR,
        "template": fields({"metadata": fields({"labels": TEXTS}), "spec": POD}),
    },
    volumeClaimTemplates=many(CLAIM),
)
NETWORK_POLICY = fields(
    {
        "podSelector": SELECTOR,
        "policyTypes": {"const": ["Ingress"]},
        "ingress": many(
            fields(
                {
                    "from_": many(
                        fields({"podSelector": SELECTOR}, namespaceSelector={"const": {}})
                    ),
                },
                ports=many(fields({"protocol": {"enum": ["TCP"]}, "port": COUNT})),
            )
        ),
    }
)
KUBERNETES = {
    "ray.io/v1/RayJob": RAY_JOB,
    "v1/Service": SERVICE,
    "apps/v1/StatefulSet": STATEFUL_SET,
    "networking.k8s.io/v1/NetworkPolicy": NETWORK_POLICY,
}


def kubernetes(kind: str) -> dict[str, Any]:
    """kind: "<apiVersion>/<kind>"."""
    head = {"apiVersion": TEXT, "kind": TEXT, "metadata": fields({"name": NAME}, namespace=NAME)}
    return fields({**head, "spec": KUBERNETES[kind]})


SERVICE_OF_COMPOSE = fields(
    {
        # a variable may name another, as by its digest
        "image": {"type": "string", "pattern": rf"^({IMAGE}|\$\{{[A-Z_]+:-{IMAGE}\}})$"},
        "init": {"const": True},
        "cap_drop": {"const": ["ALL"]},
        "security_opt": {"const": ["no-new-privileges:true"]},
        "secrets": many(TEXT),
        "networks": many(TEXT),
        "command": many(TEXT),
    },
    build=fields({"context": TEXT, "dockerfile": TEXT}),
    restart={"enum": ["unless-stopped", "no", "always", "on-failure"]},
    shm_size=TEXT,
    environment=TEXTS,
    user=TEXT,
    volumes=many(TEXT),
    ports=many({"type": "string", "pattern": r"^127\.0\.0\.1:\d+:\d+$"}),
    depends_on=mapping(fields({"condition": {"enum": ["service_healthy", "service_started"]}})),
    deploy=fields({"replicas": COUNT}),
    healthcheck=fields({"test": many(TEXT)}, interval=TEXT, timeout=TEXT, retries=COUNT),
)
COMPOSE = fields(
    {
        "name": NAME,
        "services": mapping(SERVICE_OF_COMPOSE),
        "networks": mapping(fields({})),
        "volumes": mapping(fields({})),
        "secrets": mapping(fields({"file": TEXT})),
    },
    **{"x-ray": {"type": "object"}},
)
