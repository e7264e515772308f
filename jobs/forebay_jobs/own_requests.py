"""The job as an asker: its requests go to the tiers like any other, and their replies to nobody."""

from forebay_schemas.canonical import category_of, digests
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.records import Request

from .messages import Arrival, Asker


def own_arrival(request: Request, origin: str, bucket: str, config: Config, codec: Codec) -> Arrival:
    """A request of the job's own as it comes to the desk: nobody joins it, and no cache is asked or filled.

    Its reply goes to the audit topic, where the ledger counts it apart and nobody is shown it.

    Args:
        origin: what makes its task another one; the same after a restore where the task is to be the same.
        bucket: of the desk that leads it.
    """
    keys = digests(request)
    asker = Asker(
        request_id=request.request_id,
        tenant=request.tenant,
        category=category_of(request),
        lane=request.lane,
        created_ms=request.created_ms,
        accepted_ms=request.created_ms,
        reply_topic=config.kafka.topics.audit,
        reply_key=request.request_id,
        endpoint=request.endpoint,
        min_tier=request.min_tier,
        max_tier=request.max_tier,
        origin=origin,
    )
    return Arrival(
        asker=asker,
        request=codec.encode(request),
        digest=keys.exact,
        bucket=bucket,
        joinable=False,
        bypass=True,
        prefix=keys.prefix,
    )
