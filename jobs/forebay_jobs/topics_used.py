"""Which topics the job reads and writes."""

from forebay_schemas.config import Config
from forebay_schemas.records import Lane


def request_topics(config: Config, lane: Lane) -> list[str]:
    """The request topics of a lane: the standard one and those that the configuration adds."""
    topics = config.kafka.topics
    standard = topics.requests_batch if lane is Lane.BATCH else topics.requests
    return [standard, *(name for name, topic in config.request_topics.items() if topic.lane == lane)]


def written_topics(config: Config) -> list[str]:
    """Every topic that the job may write to."""
    topics = config.kafka.topics
    tiers = [topics.tier(tier, lane) for tier in config.tiers for lane in Lane]
    return [topics.replies, *config.kafka.reply_topics, topics.replies_stream, topics.dead, topics.control, *tiers]
