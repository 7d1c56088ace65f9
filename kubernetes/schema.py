#!/usr/bin/env python3
"""Writes chart/values.schema.json: the shape of values.yaml, closed, so that a misspelt value is an error.

Types are those of the defaults; what Kubernetes itself defines (tolerations, resources, ...) is left to its own schema.
"""

import json
import pathlib

STRING, FLAG, COUNT = {"type": "string"}, {"type": "boolean"}, {"type": "integer", "minimum": 0}
ANY, LIST = {"type": "object"}, {"type": "array", "items": {"type": "object"}}
WORDS = {"type": "object", "additionalProperties": {"type": "string"}}
PORT = {"type": "integer", "minimum": 1, "maximum": 65535}


def closed(**properties):
    return {"type": "object", "additionalProperties": False, "properties": properties}


SCHEMA = closed(
    nameOverride=STRING, fullnameOverride=STRING,
    mode={"enum": ["daemonset"]},
    image=closed(repository={"type": "string", "minLength": 1}, tag=STRING,
                 digest={"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
                 pullPolicy={"enum": ["Always", "IfNotPresent", "Never"]}),
    imagePullSecrets=LIST,
    clusterName={"type": "string", "minLength": 1}, otlpEndpoint={"type": "string", "minLength": 1},
    config=ANY, extraEnvs=LIST, extraEnvsFrom=LIST, extraVolumes=LIST, extraVolumeMounts=LIST,
    serviceAccount=closed(create=FLAG, name=STRING, annotations=WORDS),
    podAnnotations=WORDS, podLabels=WORDS, podSecurityContext=ANY, securityContext=ANY,
    resources=closed(requests=ANY, limits=ANY),
    priorityClass=closed(create=FLAG, value={"type": "integer", "minimum": -2147483648, "maximum": 1000000000}),
    priorityClassName=STRING,
    tolerations=LIST, nodeSelector=WORDS, affinity=ANY,
    hostNetwork=FLAG, dnsPolicy={"enum": ["", "ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"]},
    statePath={"type": "string", "pattern": "^/."},
    rollout=closed(rollingUpdate=closed(maxUnavailable={"type": ["integer", "string"]}, maxSurge={"type": ["integer", "string"]})),
    terminationGracePeriodSeconds=COUNT,
    ports={"type": "object", "required": ["metrics", "health"], "additionalProperties": closed(containerPort=PORT)},
    livenessProbe=ANY, startupProbe=ANY,
    podMonitor=closed(enabled=FLAG, extraLabels=WORDS, interval={"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"}),
    prometheusRule=closed(enabled=FLAG, extraLabels=WORDS, runbookBase=STRING),
    networkPolicy=closed(enabled=FLAG, allowIngressFrom=LIST, egressRules=LIST),
) | {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of the Phoenix chart"}
# Helm adds it to the values of every chart.
SCHEMA["properties"]["global"] = ANY

path = pathlib.Path(__file__).parent / "chart" / "values.schema.json"
path.write_text(json.dumps(SCHEMA, indent=2) + "\n")
