"""A small validator for manifests: unknown fields, wrong types and missing fields are errors.

``RAY_JOB`` holds the field names and types of KubeRay's public custom resource definition
(``ray.io/v1``, kind RayJob) and of the parts of Kubernetes' Pod that a Ray cluster uses. Kubernetes
itself drops a misspelt field in silence, which is why the field names are worth a test.

A schema is a type, a tuple of types, a set of allowed values, ``[schema]`` for a list, ``Map`` for
free keys, or a dict of fields; a field whose name ends in ``!`` is required.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Map:
    """A mapping with free keys, all of whose values follow ``values``."""

    values: Any


def problems(value: Any, schema: Any, path: str = "") -> Iterator[str]:
    """What is wrong with ``value``, one line each, with the path of the field."""
    where = path or "(root)"
    if isinstance(schema, dict):
        if not isinstance(value, dict):
            yield f"{where}: a mapping is wanted, not {value!r}"
            return
        fields = {name.rstrip("!"): kind for name, kind in schema.items()}
        for name in value:
            if name not in fields:
                yield f"{path}.{name}: there is no such field".lstrip(".")
            else:
                yield from problems(value[name], fields[name], f"{path}.{name}".lstrip("."))
        for name in schema:
            if name.endswith("!") and name[:-1] not in value:
                yield f"{path}.{name[:-1]}: is missing".lstrip(".")
    elif isinstance(schema, list):
        if not isinstance(value, list):
            yield f"{where}: a list is wanted, not {value!r}"
            return
        for number, item in enumerate(value):
            yield from problems(item, schema[0], f"{path}[{number}]")
    elif isinstance(schema, Map):
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            yield f"{where}: a mapping of names is wanted, not {value!r}"
            return
        for key, item in value.items():
            yield from problems(item, schema.values, f"{path}.{key}")
    elif isinstance(schema, (set, frozenset)):
        if value not in schema:
            yield f"{where}: {value!r} is not one of {', '.join(sorted(schema))}"
    else:
        kinds = schema if isinstance(schema, tuple) else (schema,)
        wrong_bool = isinstance(value, bool) and bool not in kinds
        if wrong_bool or not isinstance(value, kinds):
            yield f"{where}: {value!r} is not {' or '.join(kind.__name__ for kind in kinds)}"


QUANTITY = (str, int)
PORT = (str, int)

METADATA = {
    "name": str,
    "generateName": str,
    "namespace": str,
    "labels": Map(str),
    "annotations": Map(str),
}
RESOURCES = {"requests": Map(QUANTITY), "limits": Map(QUANTITY)}
SELECTOR = {"name!": str, "key": str, "optional": bool}
ENV = [
    {
        "name!": str,
        "value": str,
        "valueFrom": {
            "secretKeyRef": SELECTOR,
            "configMapKeyRef": SELECTOR,
            "fieldRef": {"fieldPath!": str, "apiVersion": str},
        },
    }
]
ENV_FROM = [{"prefix": str, "secretRef": SELECTOR, "configMapRef": SELECTOR}]
PROBE = {
    "httpGet": {"path": str, "port!": PORT, "scheme": {"HTTP", "HTTPS"}},
    "exec": {"command": [str]},
    "tcpSocket": {"port!": PORT},
    "initialDelaySeconds": int,
    "periodSeconds": int,
    "timeoutSeconds": int,
    "successThreshold": int,
    "failureThreshold": int,
}
SECCOMP = {"type!": {"RuntimeDefault", "Unconfined", "Localhost"}, "localhostProfile": str}
CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": bool,
    "capabilities": {"add": [str], "drop": [str]},
    "privileged": bool,
    "readOnlyRootFilesystem": bool,
    "runAsNonRoot": bool,
    "runAsUser": int,
    "runAsGroup": int,
    "seccompProfile": SECCOMP,
}
CONTAINER = {
    "name!": str,
    "image!": str,
    "imagePullPolicy": {"Always", "IfNotPresent", "Never"},
    "command": [str],
    "args": [str],
    "workingDir": str,
    "env": ENV,
    "envFrom": ENV_FROM,
    "ports": [{"containerPort!": int, "name": str, "protocol": str}],
    "resources": RESOURCES,
    "securityContext": CONTAINER_SECURITY,
    "startupProbe": PROBE,
    "readinessProbe": PROBE,
    "livenessProbe": PROBE,
    "lifecycle": {"preStop": {"exec": {"command": [str]}}},
    "volumeMounts": [{"name!": str, "mountPath!": str, "readOnly": bool, "subPath": str}],
    "terminationMessagePolicy": {"File", "FallbackToLogsOnError"},
}
VOLUME = {
    "name!": str,
    "emptyDir": {"medium": str, "sizeLimit": QUANTITY},
    "persistentVolumeClaim": {"claimName!": str, "readOnly": bool},
    "secret": {"secretName": str, "defaultMode": int},
    "configMap": {"name": str, "defaultMode": int},
}
POD_TEMPLATE = {
    "metadata": METADATA,
    "spec!": {
        "containers!": [CONTAINER],
        "initContainers": [CONTAINER],
        "serviceAccountName": str,
        "automountServiceAccountToken": bool,
        "securityContext": {
            "runAsNonRoot": bool,
            "runAsUser": int,
            "runAsGroup": int,
            "fsGroup": int,
            "seccompProfile": SECCOMP,
        },
        "nodeSelector": Map(str),
        "tolerations": [{"key": str, "operator": {"Exists", "Equal"}, "value": str, "effect": str}],
        "priorityClassName": str,
        "restartPolicy": {"Always", "OnFailure", "Never"},
        "runtimeClassName": str,
        "terminationGracePeriodSeconds": int,
        "imagePullSecrets": [{"name": str}],
        "volumes": [VOLUME],
    },
}
AUTOSCALER = {
    "version": {"v1", "v2"},
    "upscalingMode": {"Default", "Aggressive", "Conservative"},
    "idleTimeoutSeconds": int,
    "resources": RESOURCES,
    "image": str,
    "imagePullPolicy": str,
    "securityContext": CONTAINER_SECURITY,
    "env": ENV,
    "envFrom": ENV_FROM,
    "volumeMounts": CONTAINER["volumeMounts"],
    "command": [str],
    "args": [str],
}
HEAD = {
    "template!": POD_TEMPLATE,
    "rayStartParams": Map(str),
    "serviceType": {"ClusterIP", "NodePort", "LoadBalancer"},
    "enableIngress": bool,
    "headService": Map((str, int, dict, list)),
    "resources": Map(str),
    "labels": Map(str),
}
WORKERS = {
    "groupName!": str,
    "template!": POD_TEMPLATE,
    "rayStartParams": Map(str),
    "replicas": int,
    "minReplicas": int,
    "maxReplicas": int,
    "numOfHosts": int,
    "idleTimeoutSeconds": int,
    "priority": int,
    "resources": Map(str),
    "labels": Map(str),
    "scaleStrategy": {"workersToDelete": [str]},
    "suspend": bool,
}
CLUSTER = {
    "rayVersion": str,
    "authOptions": {
        "mode": {"token", "disabled"},
        "secretName": str,
        "enableK8sTokenAuth": bool,
    },
    "enableInTreeAutoscaling": bool,
    "autoscalerOptions": AUTOSCALER,
    "headGroupSpec!": HEAD,
    "headServiceAnnotations": Map(str),
    "workerGroupSpecs": [WORKERS],
    "suspend": bool,
}
RAY_JOB = {
    "apiVersion!": {"ray.io/v1"},
    "kind!": {"RayJob"},
    "metadata!": METADATA,
    "spec!": {
        "activeDeadlineSeconds": int,
        "backoffLimit": int,
        "clusterSelector": Map(str),
        "entrypoint": str,
        "entrypointNumCpus": (int, float),
        "entrypointNumGpus": (int, float),
        "entrypointResources": str,
        "jobId": str,
        "managedBy": str,
        "metadata": Map(str),
        "preRunningDeadlineSeconds": int,
        "rayClusterSpec": CLUSTER,
        "runtimeEnvYAML": str,
        "shutdownAfterJobFinishes": bool,
        "submissionMode": {"K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"},
        "submitterConfig": {"backoffLimit": int},
        "submitterPodTemplate": POD_TEMPLATE,
        "suspend": bool,
        "ttlSecondsAfterFinished": int,
    },
}
