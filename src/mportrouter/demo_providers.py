"""Which stand-ins there are, what each speaks, and which one stands in for a provider of the catalogue."""

from __future__ import annotations

from .demo_chat import ChatVoice
from .demo_gemini import GeminiVoice
from .demo_messages import MessagesVoice
from .demo_paces import PACES
from .demo_responses import ResponsesVoice
from .demo_script import MODELS
from .demo_voice import Voice

#: Path at a stand-in's port to which the base URL of an upstream leads, by its dialect.
_PLACES = {("minimax", "anthropic"): "/anthropic", ("codex", "openai-responses"): "/backend-api/codex"}
#: The same for providers whose Messages MiniMax's stand-in speaks: their models have names of their own.
_OF_OTHERS = "/others"
#: The stand-in of a provider that has none of its own.
_OTHERS = {"anthropic": "minimax", "openai-chat": "local", "openai-responses": "openai", "gemini": "gemini"}


def place(provider: str, dialect: str) -> tuple[str, str]:
    """
    The stand-in for an upstream of a provider: its own, or one that speaks its dialect.

    :returns: the stand-in, and the path at its port that the base URL ends in.
    """
    stand_in = "openai" if provider == "codex" else provider if provider in PACES else _OTHERS[dialect]
    if stand_in == "minimax" and provider != stand_in and dialect == "anthropic":
        return stand_in, _OF_OTHERS
    return stand_in, _PLACES.get((provider if provider == "codex" else stand_in, dialect), "")


def voices(provider: str) -> dict[str, Voice]:
    """What a stand-in speaks, by the beginning of the path; the longer ones first."""
    if provider == "gemini":
        return {"/v1beta/": GeminiVoice("Gemini", ("gemini-3-pro", "gemini-3-flash", "gemini-2.5-flash"))}
    if provider == "openai":
        gpt = ("gpt-6", "gpt-6-mini", "gpt-5")
        return {
            "/backend-api/codex/": ResponsesVoice("Codex", "codex", True, gpt),
            "/v1/responses": ResponsesVoice("OpenAI"),
            "/v1/": ChatVoice("OpenAI", gpt),
        }
    if provider == "minimax":
        models = tuple(id for id, _, _ in MODELS["minimax"])
        return {
            "/anthropic/": MessagesVoice("minimax"),
            f"{_OF_OTHERS}/": MessagesVoice("minimax", any_model=True),
            "/v1/": ChatVoice("MiniMax", models, strict=False, reasoning="reasoning_content"),
        }
    if provider == "local":
        return {"/": ChatVoice("a local server", ("llama-4", "qwen-3"), strict=False, reasoning="reasoning")}
    return {"/": MessagesVoice(provider)}
