"""The commands of the control topic that concern the job: what is taken back, invalidated, or to be forgotten."""

import logging

from forebay_schemas.codec import Codec
from forebay_schemas.commands import CANCEL, FORGET, INVALIDATE
from forebay_schemas.errors import ForebayError
from forebay_schemas.records import Control

from .caches.answers import AnswerStore
from .messages import Cancel, Forget, Invalidate

logger = logging.getLogger(__name__)


class Commands:
    """Reads commands. None of them can end the job."""

    def __init__(self, codec: Codec, answers: AnswerStore) -> None:
        self._codec = codec
        self._answers = answers

    def take(self, value: bytes, origin: str) -> Cancel | Invalidate | Forget | None:
        """The command in a record of the topic, where it is for the desk.

        A cancellation is noted for what was not read yet. An invalidation is neither checked nor applied
        here: what became of it must not be lost, and only the desk has state to keep it in.

        Args:
            value: of the record.
            origin: where it lies.
        """
        if not value:  # compaction's way of taking a command back
            return None
        try:
            control = self._codec.decode(value, Control)
        except ForebayError as error:  # a record that is none, or a registry that is away
            logger.warning("a record of the control topic is passed over (%s)", error)
            return None
        if control.command == INVALIDATE:
            return Invalidate(
                name=f"{origin}/{control.issued_ms}",  # a topic that is made anew begins again with offset 0
                arguments=control.arguments,
                issued_ms=control.issued_ms,
                issued_by=control.issued_by,
            )
        if control.command == FORGET:
            return _forget(control)
        if control.command != CANCEL:
            return None
        tenant, request_id = (control.arguments.get(name) for name in ("tenant", "request_id"))
        if not tenant or not request_id:
            logger.warning("a command is passed over: %s needs the arguments tenant and request_id", CANCEL)
            return None
        cancel = Cancel(tenant=tenant, request_id=request_id, issued_ms=control.issued_ms)
        self._answers.note_cancelled(cancel)
        return cancel


def _forget(control: Control) -> Forget | None:
    tenant, command_id = (control.arguments.get(name) for name in ("tenant", "id"))
    user = control.arguments.get("user")
    if not tenant or not command_id or user == "":
        logger.warning("a command is passed over: %s needs the arguments tenant and id, and a user's name", FORGET)
        return None
    return Forget(id=command_id, tenant=tenant, user=user)
