"""`forebay asyncapi`: the document is valid, up to date, and says of topics, records and headers what the code does."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from forebay_ops import acls
from forebay_ops.cli import forebay
from forebay_ops.topics import topic_specs
from forebay_schemas.channels import CHANNELS
from forebay_schemas.codec import RECORDS, Codec, avro_folder, file_stem
from forebay_schemas.config import load_config
from forebay_schemas.records import Lane
from forebay_schemas.topics import HEADERS, Headers
from jsonschema import Draft7Validator

from tests.builders import make_feedback, make_reply, make_request, make_result, make_task

ROOT = Path(__file__).parents[2]
# Of the npm package @asyncapi/specs 6.11.1; its licence lies beside it.
SPECIFICATION = json.loads((Path(__file__).parent / "asyncapi" / "3.0.0.json").read_text("utf-8"))
OWN = """
[kafka]
topic_prefix = "shop"
bootstrap = "one:9092,two:9092"
reply_topics = ["billing.replies"]
client_settings = { "security.protocol" = "ssl" }
[registry]
url = "https://registry.internal"
[request_topics."acme.nightly"]
tenant = "acme"
lane = "batch"
[feedback_topics]
"acme.feedback" = "acme"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where no stack runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(folder: Path, settings: str = "") -> dict[str, Any]:
    """What the command writes for an installation with these settings."""
    (folder / "forebay.toml").write_text(settings)
    done = CliRunner().invoke(
        forebay, ["asyncapi", str(folder / "contract")], env={"FOREBAY_CONFIG": str(folder / "forebay.toml")}
    )
    assert done.exit_code == 0, done.output
    return yaml.safe_load((folder / "contract" / "asyncapi.yaml").read_text("utf-8"))


def resolved(part: Any, document: dict[str, Any], beside: Path) -> Any:
    """A part of the document with the schemas that it refers to in place; references within it must lead somewhere."""
    if isinstance(part, list):
        return [resolved(item, document, beside) for item in part]
    if not isinstance(part, dict):
        return part
    reference = part.get("$ref")
    if reference is None:
        return {name: resolved(value, document, beside) for name, value in part.items()}
    if not reference.startswith("#/"):
        return json.loads((beside / reference).read_text("utf-8"))
    found = document
    for name in reference.removeprefix("#/").split("/"):
        found = found[name]
    return part


def topics(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every topic with the name of its channel."""
    for name, channel in document["channels"].items():
        for tier in channel.get("parameters", {}).get("tier", {}).get("enum", [""]):
            yield channel["address"].replace("{tier}", tier), name


def test_the_document_in_the_repository_is_up_to_date(folder: Path) -> None:
    written(folder)
    for file in ("asyncapi.yaml", *(f"avro/{schema.name}" for schema in avro_folder().iterdir())):
        current, checked_in = folder / "contract" / file, ROOT / "schemas" / file
        assert current.read_text("utf-8") == checked_in.read_text("utf-8"), "run `forebay asyncapi schemas`"


@pytest.mark.parametrize("settings", ["", OWN], ids=["defaults", "an installation"])
def test_it_is_valid(folder: Path, settings: str) -> None:
    document = written(folder, settings)
    whole = resolved(document, document, folder / "contract")
    problems = [
        f"{error.json_path}: {error.message:.200}" for error in Draft7Validator(SPECIFICATION).iter_errors(whole)
    ]
    assert problems == []


@pytest.mark.parametrize("settings", ["", OWN], ids=["defaults", "an installation"])
def test_it_has_every_topic_that_is_made_as_it_is_made(folder: Path, settings: str) -> None:
    document = written(folder, settings)
    described = {topic: document["channels"][name]["bindings"]["kafka"] for topic, name in topics(document)}
    specs = topic_specs(load_config(folder / "forebay.toml"))
    assert described.keys() == {spec.name for spec in specs}
    for spec in specs:
        binding = described[spec.name]
        assert binding["partitions"] == spec.partitions
        settings_described = {
            name: ",".join(value) if isinstance(value, list) else str(value)
            for name, value in binding["topicConfiguration"].items()
        }
        assert settings_described == spec.settings


def test_a_reader_finds_the_schema_of_every_value_by_its_fingerprint(folder: Path) -> None:
    channels = written(folder)["channels"]
    old, new = make_request(), make_request(passages=["Parcels go back within 30 days."])
    values = {"requests": [old, new], "replies": [make_reply()], "tier": [make_task()], "results": [make_result()]}
    values["feedback"] = [make_feedback()]
    for name, records in values.items():
        by_fingerprint = {message["x-fingerprint"]: message["name"] for message in channels[name]["messages"].values()}
        for record in records:
            value = Codec().encode(record)
            assert by_fingerprint[value[2:10].hex()].startswith(file_stem(type(record).__name__))
    assert Codec().encode(old)[2:10] != Codec().encode(new)[2:10]


def test_every_record_and_every_header_is_on_some_channel() -> None:
    assert {record for channel in CHANNELS for record in channel.records} == set(RECORDS)
    values = dict.fromkeys(Headers.__struct_fields__, "1")
    used = {header for channel in CHANNELS for header in channel.headers}
    assert used == HEADERS.keys() == Headers(**values).to_kafka().keys()  # pyright: ignore[reportArgumentType]


def test_job_and_workers_write_and_read_what_they_have_the_rights_to(folder: Path) -> None:
    document = written(folder)
    channels = dict(topics(document))
    config = load_config(folder / "forebay.toml")
    for part, rights in (("job", acls.job_rights(config)), ("workers", acls.worker_rights(config))):
        for action, operation in (("send", "Write"), ("receive", "Read")):
            may = {channels[right.name] for right in rights if right.kind == "topic" and operation in right.operations}
            does = {name for name in document["channels"] if f"{part}-{action}-{name}" in document["operations"]}
            assert does == may


def test_the_page_of_the_topics_says_the_same() -> None:
    page = (ROOT / "docs" / "topics.md").read_text("utf-8").splitlines()
    names = load_config().kafka.topics
    tiers = {"tier": names.tier("<tier>", Lane.INTERACTIVE), "tier_batch": names.tier("<tier>", Lane.BATCH)}
    for channel in CHANNELS:
        address = tiers.get(channel.name) or getattr(names, channel.name)
        records = ", ".join(f"`{record.__name__}`" for record in channel.records)
        writers, readers = ", ".join(channel.written_by), ", ".join(channel.read_by)
        assert f"| `{address}` | {records} | {writers} | {readers} | {channel.summary} |" in page
