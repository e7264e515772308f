"""Which topics the job reads and writes."""

from forebay_schemas.config import Config
from forebay_schemas.records import Lane


def request_topics(config: Config, lane: Lane) -> list[str]:
    """The request topics of a lane: the standard one and those that the configuration adds."""
    topics = config.kafka.topics
    standard = topics.requests_batch if lane is Lane.BATCH else topics.requests
    return [standard, *(name for name, topic in config.request_topics.items() if topic.lane == lane)]


def feedback_topics(config: Config) -> list[str]:
    """The feedback topics: the standard one and those that the configuration adds."""
    return [config.kafka.topics.feedback, *config.feedback_topics]


def topics_to_read(config: Config) -> list[str]:
    """Every topic that the job reads."""
    topics = config.kafka.topics
    requests = [topic for lane in Lane for topic in request_topics(config, lane)]
    return [*requests, topics.results, topics.control, *feedback_topics(config)]


def written_topics(config: Config) -> list[str]:
    """Every topic that the job may write to."""
    topics = config.kafka.topics
    tiers = [topics.tier(tier, lane) for tier in config.tiers for lane in Lane]
    own = [topics.replies, topics.replies_stream, topics.dead, topics.control, topics.events, topics.audit]
    return [*own, *config.kafka.reply_topics, *tiers]
