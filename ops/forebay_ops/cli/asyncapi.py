"""`forebay asyncapi`: what other languages need to read and write the topics."""

import shutil
from pathlib import Path

import click
import yaml
from forebay_schemas.codec import avro_folder

from ..asyncapi import asyncapi as document_of
from .options import cli_config

_HEAD = "# Written by `forebay asyncapi`, not by hand.\n"


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as they are."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def asyncapi(folder: Path) -> None:
    """Write the contract of the topics into FOLDER: an AsyncAPI 3.0 document, and the Avro schemas that it refers to.

    It describes this installation: its topics, tiers, settings and brokers. A service in another language needs nothing
    else of Forebay, and AsyncAPI's tools make pages and code of it.

    \b
      forebay asyncapi contract      # contract/asyncapi.yaml and contract/avro/*.avsc
    """
    document = document_of(cli_config())
    schemas = folder / "avro"
    schemas.mkdir(parents=True, exist_ok=True)
    for file in sorted(avro_folder().glob("*.avsc")):
        if not (schemas / file.name).exists() or not file.samefile(schemas / file.name):
            shutil.copyfile(file, schemas / file.name)
    text = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    (folder / "asyncapi.yaml").write_text(_HEAD + text, "utf-8")
    click.echo(f"wrote {folder / 'asyncapi.yaml'} with {len(document['channels'])} channels, and the schemas beside it")
