"""A Flink job that hands every request back as it came, by one Python function: the baseline of the job.

``python -m forebay_ops.bench.identity CONFIG`` submits it. Sources, sinks and settings are those of the job itself.
"""

import sys
from typing import Any

from forebay_jobs.environment import remote_environment
from forebay_jobs.kafka_tables import read_topics, write_topics
from forebay_jobs.operators.rows import OUTGOING
from forebay_jobs.settings import job_name
from forebay_jobs.topics_used import written_topics
from forebay_schemas.config import Config, load_config
from forebay_schemas.topics import REQUEST_ID
from pyflink.common import Row


def submit(config: Config) -> None:
    """Submit it; it runs on without this process."""
    topics = config.kafka.topics
    environment, tables = remote_environment(config, None)

    def identity(row: Any) -> Row:
        return Row(topic=topics.replies, key=row.headers[REQUEST_ID], value=row.value, headers=row.headers)

    requests = read_topics(tables, "requests", [topics.requests], config, {})
    write_topics(tables, "replies", requests.map(identity, output_type=OUTGOING), written_topics(config), config)
    environment.execute_async(job_name(config))


if __name__ == "__main__":
    submit(load_config(sys.argv[1]))
