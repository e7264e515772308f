"""What can go wrong for a service that asks, as exceptions by kind."""

from confluent_kafka import KafkaError
from forebay_schemas.errors import ErrorCode, ForebayError, RecordError
from forebay_schemas.records import Reply


class BrokerUnavailable(ForebayError):
    """The brokers did not take what was published, or cannot be reached.

    Attributes:
        request_ids: the requests concerned, where they are known; of very many the last ones.
    """

    def __init__(self, message: str, request_ids: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.request_ids = request_ids


_REFUSALS = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
)


def explain(error: KafkaError, topic: str, bootstrap: str) -> str:
    """What a Kafka error means for the user of a topic, and how to mend it."""
    if error.code() in (KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART):
        return f"the topic {topic} does not exist; make it with `forebay topics`"
    if error.code() in _REFUSALS:
        return f"this user may not use {topic} ({error.str()}); ask for the access, or use another topic or group"
    return (
        f"the brokers at {bootstrap} do not answer ({error.str()});"
        f" check kafka.bootstrap, that they run (`forebay up` starts a local one) and that they have {topic}"
    )


class ClientClosed(ForebayError):
    """The client was closed, so no reply can come through it any more."""


class RequestTooLarge(RecordError):
    """The encoded request is above the limit that all parts of the pipeline share.

    Attributes:
        size_bytes: of the encoded request.
        limit_bytes: ``kafka.max_record_bytes``.
    """

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            ErrorCode.TOO_LARGE,
            f"the request has {size_bytes} bytes, above kafka.max_record_bytes {limit_bytes};"
            " send less context, or raise the limit for all parts",
        )
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class ReplyTimeout(ForebayError, TimeoutError):
    """Nothing came within the time that the asker was ready to wait.

    Attributes:
        request_id: what was waited for.
    """

    def __init__(self, request_id: str, waited_s: float) -> None:
        super().__init__(
            f"no reply to request {request_id} within {waited_s:.4g} s;"
            " check that job and workers run, or wait longer (timeout_s)"
        )
        self.request_id = request_id


class InvalidationPending(ForebayError, TimeoutError):
    """Nobody has said yet that an invalidation holds. It is published, and will be applied.

    Attributes:
        command_id: of the command, by which the event that acknowledges it can still be known.
    """

    def __init__(self, command_id: str, waited_s: float) -> None:
        super().__init__(
            f"the invalidation {command_id} is queued, and was not acknowledged within {waited_s:.4g} s; it will be"
            " applied: check that the job runs and Redis answers, or wait longer (timeout_s)"
        )
        self.command_id = command_id


class RequestFailed(ForebayError):
    """The pipeline answered with an error instead of a text.

    Attributes:
        reply: the whole reply, with its attribution.
        code: one of ``ErrorCode``.
        message: what went wrong, in words.
        retryable: whether the same request may succeed when it is sent again.
    """

    def __init__(self, reply: Reply) -> None:
        error = reply.error
        assert error is not None, "only error replies fail"
        super().__init__(f"request {reply.request_id} failed ({error.code}): {error.message}")
        self.reply = reply
        self.code = error.code
        self.message = error.message
        self.retryable = error.retryable


class DeadlineExceeded(RequestFailed, TimeoutError):
    """The request's deadline passed before the pipeline had an answer; nothing more is spent on it."""


class RequestCancelled(RequestFailed):
    """The request was taken back before it was answered, by the asker or by an operator."""


class StreamRestarted(ForebayError):
    """The answer began anew with a text that is not the one streamed so far, which counts no longer.

    The stream has not ended: whoever goes on iterating gets the new text from its beginning.
    """

    def __init__(self) -> None:
        super().__init__(
            "the answer began anew, and the text streamed so far counts no longer; go on iterating to get the new one"
        )


_FAILURES: dict[str, type[RequestFailed]] = {
    ErrorCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    ErrorCode.CANCELLED: RequestCancelled,
}


def raise_for_error(reply: Reply) -> Reply:
    """The reply itself where it is an answer.

    Raises:
        DeadlineExceeded: it says that the deadline passed.
        RequestCancelled: it says that the request was taken back.
        RequestFailed: it says that something else went wrong.
    """
    if reply.error is None:
        return reply
    raise _FAILURES.get(reply.error.code, RequestFailed)(reply)
