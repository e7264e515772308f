"""`forebay ledger`: what keeps every reply, what it cost, and what was thought of it."""

import signal
import threading

import click
from forebay_schemas.logs import write_logs

from ..ledger.recorder import record
from .options import cli_config


@click.command()
def ledger() -> None:
    """Write every reply, and all feedback, to Parquet files, one folder a day, until Ctrl-C or SIGTERM.

    Each is in them exactly once, also after this process was killed: it goes on where its files end. One process reads
    all reply and feedback topics into `ledger.folder`. Texts are left out unless `ledger.texts` is set.

    \b
      forebay ledger
      forebay report --since 7d
      duckdb -c "SELECT day, sum(cost) FROM read_parquet('.forebay/ledger/*/*.parquet') WHERE NOT repeat GROUP BY day"
    """
    config = cli_config()
    write_logs(config.logs)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    record(config, stop)
