#!/usr/bin/env python3
"""Holds Kubernetes objects to their schemas, strictly: what a schema does not name is an error.

    validate.py CRDS VERSION... -- FILE...

The API's own kinds are checked against every VERSION by kubernetes-validate; the Prometheus operator's against its CRDs,
YAML files in the folder CRDS.
"""

import pathlib
import sys

import jsonschema
import kubernetes_validate
import yaml


def closed(schema):
    """The schema with every object closed that names its properties."""
    if isinstance(schema, dict):
        schema = {key: closed(value) for key, value in schema.items()}
        if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
        if isinstance(schema.get("pattern"), str):  # Go's flags may stand anywhere, Python's in front
            schema["pattern"] = schema["pattern"].replace("^(?i)", "(?i)^")
    elif isinstance(schema, list):
        schema = [closed(item) for item in schema]
    return schema


def custom(folder):
    """(apiVersion, kind) -> schema."""
    found = {}
    for kind in ["podmonitors", "prometheusrules"]:
        path = pathlib.Path(folder) / f"monitoring.coreos.com_{kind}.yaml"
        spec = yaml.safe_load(path.read_text())["spec"]
        for version in spec["versions"]:
            schema = version["schema"]["openAPIV3Schema"]
            # Metadata is the API's own, and left open in a CRD.
            schema["properties"]["metadata"] = {"type": "object", "required": ["name"]}
            found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = closed(schema)
    return found


def main():
    arguments = sys.argv[1:]
    end = arguments.index("--")
    crds, versions, files = custom(arguments[0]), arguments[1:end], arguments[end + 1:]
    count = 0
    for name in files:
        for thing in filter(None, yaml.safe_load_all(pathlib.Path(name).read_text())):
            where = f"{name}: {thing['kind']} {thing['metadata']['name']}"
            try:
                if schema := crds.get((thing["apiVersion"], thing["kind"])):
                    jsonschema.validate(thing, schema)
                else:
                    for version in versions:
                        kubernetes_validate.validate(thing, version, strict=True)
            except Exception as error:  # each of the two has its own kinds
                sys.exit(f"{where}: {getattr(error, 'message', error)}")
            count += 1
    print(f"{count} objects hold")


main()
