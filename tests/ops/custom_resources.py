"""Whether objects of other projects' kinds are as those projects define them."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

OPERATOR = ("org.apache.flink", "flink-kubernetes-operator-api", "1.10.0")
"""The newest of the operator's releases whose definitions are in Maven Central; later ones know more Flink versions."""


def flink_deployment() -> dict[str, Any]:
    """The definition of FlinkDeployment.

    Raises:
        OSError, RuntimeError: it cannot be fetched.
    """
    from jgo.maven import MavenContext

    group, artifact, version = OPERATOR
    jar = MavenContext().project(group, artifact).at_version(version).artifact().resolve()
    with zipfile.ZipFile(jar) as archive:
        text = archive.read("META-INF/fabric8/flinkdeployments.flink.apache.org-v1.yml")
    return yaml.load(text, yaml.CSafeLoader)


def definitions_in(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Every CustomResourceDefinition in the YAML files of a folder, by group and kind."""
    found = {}
    for file in sorted([*folder.glob("**/*.yaml"), *folder.glob("**/*.yml")]):
        for document in yaml.load_all(file.read_text(), yaml.CSafeLoader):
            listed = document["items"] if document and document["kind"] == "List" else [document]
            for each in listed:
                if each and each["kind"] == "CustomResourceDefinition":
                    found[each["spec"]["group"], each["spec"]["names"]["kind"]] = each
    return found


def problems(document: dict[str, Any], definition: dict[str, Any]) -> Iterator[str]:
    """What in an object its definition does not allow, unknown fields among it: a server drops those silently."""
    version = document["apiVersion"].split("/")[1]
    (schema,) = (each["schema"] for each in definition["spec"]["versions"] if each["name"] == version)
    own = {name: value for name, value in document.items() if name not in ("apiVersion", "kind", "metadata")}
    for error in Draft202012Validator(_closed(schema["openAPIV3Schema"] | {"required": []})).iter_errors(own):
        yield f"{error.json_path}: {error.message}"


def _closed(schema: Any) -> Any:
    """The schema with no fields but those that it names, where it names any."""
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items() if key != "properties"}
    if "properties" in schema:
        closed["properties"] = {name: _closed(value) for name, value in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            closed.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        closed.pop("type", None)
    return closed
