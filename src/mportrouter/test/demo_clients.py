"""The official clients at a stand-in's voice, without any socket: what they send is checked, what they get is read."""

from __future__ import annotations

import json
from typing import Any

import openai
from google import genai
from google.genai import types

from mportrouter.demo_said import Refusal
from mportrouter.demo_voice import Voice

try:  # what the clients' versions stand on
    import httpx2 as httpx
except ImportError:
    import httpx


def _transport(voice: Voice, sent: list[Any] | None) -> httpx.Client:
    serials = iter(range(1, 1000))

    def answer(request: httpx.Request) -> httpx.Response:
        serial = next(serials)
        body = json.loads(request.content)
        name, colon, action = request.url.path.rpartition("/")[2].partition(":")
        if colon:
            streamed = "sse" if "alt" in request.url.params else "array"
            body = {**body, ":model": name, ":stream": streamed if action.startswith("stream") else ""}
        if sent is not None:
            sent.append(body)
        counting = action == "countTokens" or name == "input_tokens"
        try:
            body = voice.check(body, {}, counting)
            if counting:
                return httpx.Response(200, json=voice.count(body))
            spelt = voice.answer(body, serial)
        except Refusal as refusal:
            return httpx.Response(refusal.status, json=voice.error(refusal, serial))
        if spelt.stream:
            return httpx.Response(200, content=b"".join(spelt.events), headers={"content-type": spelt.content_type})
        return httpx.Response(200, json=spelt.whole)

    return httpx.Client(transport=httpx.MockTransport(answer))


def openai_at(voice: Voice, sent: list[Any] | None = None) -> openai.OpenAI:
    """:param sent: gets the requests."""
    return openai.OpenAI(
        base_url="http://127.0.0.1:1/v1", api_key="k", max_retries=0, http_client=_transport(voice, sent)
    )


def gemini_at(voice: Voice, sent: list[Any] | None = None) -> genai.Client:
    """:param sent: gets the requests."""
    options = types.HttpOptions(base_url="http://127.0.0.1:1", httpx_client=_transport(voice, sent))
    return genai.Client(api_key="k", vertexai=False, http_options=options)
