"""Which stand-ins there are: little enough to be known wherever a configuration is read."""

from __future__ import annotations

#: Share of the configured pace, and the wait before the head in events, of each stand-in.
PACES = {"anthropic": (1.0, 6), "minimax": (0.5, 4), "openai": (1.0, 5), "gemini": (0.8, 5), "local": (0.5, 2)}
