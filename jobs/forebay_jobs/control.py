"""The commands of the control topic that concern the job: requests that are taken back."""

import logging

from forebay_schemas.codec import Codec
from forebay_schemas.commands import CANCEL
from forebay_schemas.errors import ForebayError
from forebay_schemas.records import Control

from .caches.answers import AnswerStore
from .messages import Cancel

logger = logging.getLogger(__name__)


class Commands:
    """Reads commands. None of them can end the job."""

    def __init__(self, codec: Codec, answers: AnswerStore) -> None:
        self._codec = codec
        self._answers = answers

    def take(self, value: bytes) -> Cancel | None:
        """The cancellation in a record of the topic, noted for a request that was not read yet; None for all else."""
        if not value:  # compaction's way of taking a command back
            return None
        try:
            control = self._codec.decode(value, Control)
        except ForebayError as error:  # a record that is none, or a registry that is away
            logger.warning("a record of the control topic is passed over (%s)", error)
            return None
        if control.command != CANCEL:
            return None
        tenant, request_id = (control.arguments.get(name) for name in ("tenant", "request_id"))
        if not tenant or not request_id:
            logger.warning("a command is passed over: %s needs the arguments tenant and request_id", CANCEL)
            return None
        cancel = Cancel(tenant=tenant, request_id=request_id, issued_ms=control.issued_ms)
        self._answers.note_cancelled(cancel)
        return cancel
