"""
The way between two dialects, for one exchange: the client's request as an upstream's dialect has it, and the upstream's
answer as the client's has it.

The client's request is read once, whatever number of upstreams is asked.
"""

from __future__ import annotations

import attrs

from .interfaces import AnswerContext, Conversation, IDialect, Look, Prepared, Target
from .translator import Translator


class Crossing:
    """
    :param dialect: the client's.
    :param body: the client's request.
    :param request_id: names the exchange.
    :param created: seconds since the epoch.
    """

    __slots__ = ("_body", "_conversation", "_created", "_dialect", "_look", "_request_id")

    def __init__(self, dialect: IDialect, body: bytes, look: Look, request_id: str, created: float) -> None:
        self._dialect = dialect
        self._body = body
        self._look = look
        self._request_id = request_id
        self._created = int(created)
        self._conversation: Conversation | None = None

    @property
    def conversation(self) -> Conversation:
        """
        What the client asks for.

        :raises RouterError: ``BAD_REQUEST`` where it cannot be understood.
        """
        if self._conversation is None:
            self._conversation = self._dialect.read_request(self._body, self._look)
        return self._conversation

    def write(self, back: IDialect, target: Target) -> Prepared:
        """
        The request in an upstream's dialect.

        :raises RouterError: ``BAD_REQUEST`` where it cannot be understood.
        :raises Inexpressible: the upstream cannot be asked for this.
        """
        return back.write_request(self.conversation, target)

    def reader(
        self, back: IDialect, target: Target, prepared: Prepared, stream: bool, coding: bytes, estimate: int
    ) -> Translator:
        """
        Reads the upstream's answer and gives the client's.

        :param stream: the answer that came is an event stream.
        :param coding: its content coding, ``b""`` for none.
        :param estimate: tokens that the prompt may have.
        """
        context = AnswerContext(
            self.conversation, target, self._request_id, self._created, prepared.names, estimate
        )  # fmt: skip
        writer = self._dialect.event_writer(self._look.stream, context)
        return Translator(back.event_reader(stream, context), writer, coding=coding, by=target.provider)


#: What is told of a request that was mended.
MENDED = "reasoning (refused by its provider)"


def mended(back: IDialect, prepared: Prepared, refusal: bytes) -> Prepared | None:
    """
    A request without what its upstream refused and the conversation can do without; ``None``: there is nothing, or it
    has been left out already.

    :param refusal: the body of the 400.
    """
    body = None if MENDED in prepared.dropped else back.mend(prepared.body, refusal)
    return None if body is None else attrs.evolve(prepared, body=body, dropped=(*prepared.dropped, MENDED))
