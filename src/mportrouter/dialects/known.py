"""Every dialect, by its name in the configuration: one object each, so that comparing two is comparing objects."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ..interfaces import IDialect
from .anthropic import AnthropicDialect
from .chat import ChatDialect
from .gemini import GeminiDialect
from .responses import ResponsesDialect

ANTHROPIC: IDialect = AnthropicDialect()
CHAT: IDialect = ChatDialect()
RESPONSES: IDialect = ResponsesDialect()
GEMINI: IDialect = GeminiDialect()

DIALECTS: Mapping[str, IDialect] = MappingProxyType(
    {dialect.name: dialect for dialect in (ANTHROPIC, CHAT, RESPONSES, GEMINI)}
)
