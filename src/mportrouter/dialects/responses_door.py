"""
Readers of answers of the OpenAI Responses dialect that pass to a client of the same dialect.

Their bytes pass untouched, but for the encrypted reasoning of providers whose own it is: that goes into envelopes, so
that it comes back to them and to nobody else.
"""

from __future__ import annotations

from typing import Any

from zope.interface import implementer

from .. import coding as codings
from .. import envelope, splice, sse
from ..conversation import Opaque
from ..errors import Verdict
from ..interfaces import Ending, IAnswerReader, Target
from ..tee import Tee, WholeTee
from .responses_errors import garbage
from .responses_input import NATIVE
from .responses_stream import interesting, watcher

_MARK = b'"encrypted_content"'


def reader(stream: bool, encoding: bytes, target: Target) -> IAnswerReader:
    """See :meth:`mportrouter.interfaces.IDialect.reader`."""
    events = watcher(stream, target)
    tee: Tee | WholeTee = Tee(events, interesting) if stream else WholeTee(events)
    return tee
