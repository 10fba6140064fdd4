"""
The stand-ins' voice in Gemini's generateContent: how it answers and how it streams. What it refuses is in
:mod:`mportrouter.demo_gemini_rules`.
"""

from __future__ import annotations

import base64
from typing import Any

from .demo_gemini_rules import checked, major
from .demo_said import ANY_OBJECT, Asked, Refusal, Said, bad, in_words, prompt_tokens, say, signature, spoken
from .demo_voice import Spelt, dump

_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class GeminiVoice:
    """
    The model and the kind of answer stand in the path: the stand-in puts them into the body as ``":model"`` and
    ``":stream"`` (``sse``, ``array`` or ``""``).

    :param title: the provider's name in answers.
    :param models: ids of its models.
    """

    paths: tuple[str, ...] = (":generateContent", ":streamGenerateContent", ":countTokens")

    def __init__(self, title: str, models: tuple[str, ...]) -> None:
        self._title = title
        self._models = models

    def check(self, body: Any, fields: dict[str, str], counting: bool = False) -> Any:
        """:raises Refusal: as the real one does."""
        return checked(body, counting)

    # ------------------------------------------------------------------------------------------------ answers

    def answer(self, body: dict[str, Any], serial: int) -> Spelt:
        """The answer to a checked request; ``":model"`` in it names the model, ``":stream"`` how it is wanted."""
        model = body[":model"]
        config = body.get("generationConfig") or {}
        thinking = config.get("thinkingConfig") or {}
        said = say(self._understood(body, model, config, thinking))
        prompt = prompt_tokens(body.get("tools"), body.get("systemInstruction"), *body["contents"])
        usage = {
            "promptTokenCount": prompt,
            "cachedContentTokenCount": prompt // 2,
            "candidatesTokenCount": said.tokens - said.thought_tokens,
            "thoughtsTokenCount": said.thought_tokens,
            "totalTokenCount": prompt + said.tokens,
        }
        frame = {"modelVersion": model, "responseId": f"demo{serial:08d}"}
        sign = ""
        if major(model) >= 3 or said.thought:
            sign = base64.b64encode(f"{serial}|{signature('gemini', str(serial))}".encode()).decode()
        parts, pieces = self._parts(said, serial, sign, thinking.get("includeThoughts") is True)
        stop = "MAX_TOKENS" if said.stop == "length" else "STOP"
        last = {"text": ""} if said.calls or not sign else {"text": "", "thoughtSignature": sign}

        def value(each: list[dict[str, Any]], finish: str | None, counts: dict[str, int]) -> dict[str, Any]:
            candidate: dict[str, Any] = {"content": {"role": "model", "parts": each}, "index": 0}
            if finish is not None:
                candidate["finishReason"] = finish
            return {"candidates": [candidate], "usageMetadata": counts, **frame}

        first = {"promptTokenCount": prompt, "totalTokenCount": prompt}
        chunks = [value([piece], None, first) for piece in pieces]
        chunks.append(value([last], stop, usage))
        whole = value(parts or [last], stop, usage)
        trouble = dump(self.error(Refusal(503, "overloaded_error", "The model is overloaded."), serial))
        stream = body.get(":stream", "")
        if stream == "array":
            text = [dump(chunk) for chunk in chunks]
            events = [b"[" + text[0], *[b"\n,\r\n" + each for each in text[1:]], b"\n]\n"]

            def broken(after: int) -> bytes:
                return (b"\n,\r\n" if after else b"[") + trouble + b"\n]\n"

            return Spelt(
                whole, events, True, broken, b'\n,\r\n{"candidates": [{"cont', "application/json; charset=UTF-8"
            )

        def failed(after: int) -> bytes:
            return b"data: " + trouble + b"\r\n\r\n"

        events = [b"data: " + dump(chunk) + b"\r\n\r\n" for chunk in chunks]
        garbage = b'data: {"candidates": [{"cont\r\n\r\n'
        return Spelt(whole, events, stream == "sse", failed, garbage, "text/event-stream")

    @staticmethod
    def _parts(said: Said, serial: int, sign: str, show: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        parts: list[dict[str, Any]] = []
        pieces: list[dict[str, Any]] = []
        if said.thought and show:
            parts.append({"text": said.thought, "thought": True})
            pieces += [{"text": piece, "thought": True} for piece in in_words(said.thought)]
        if said.words:
            parts.append(
                {"text": said.text} if said.calls or not sign else {"text": said.text, "thoughtSignature": sign}
            )
            pieces += [{"text": word} for word in said.words]
        for at, (name, made) in enumerate(said.calls):
            call: dict[str, Any] = {"functionCall": {"id": f"fc-{serial}-{at}", "name": name, "args": made}}
            if at == 0 and sign:
                call["thoughtSignature"] = sign
            parts.append(call)
            pieces.append(call)
        return parts, pieces

    def _understood(self, body: dict[str, Any], model: str, config: dict[str, Any], thinking: dict[str, Any]) -> Asked:
        asked, result = "", None
        for content in reversed(body["contents"]):
            if content.get("role") == "model":
                break
            for part in reversed(content["parts"]):
                if "functionResponse" in part and result is None:
                    result = " ".join(str(each) for each in part["functionResponse"]["response"].values())
                elif not asked:
                    asked = spoken([part])
        calling = (body.get("toolConfig") or {}).get("functionCallingConfig") or {}
        allowed = calling.get("allowedFunctionNames") or ()
        tools = {
            function["name"]: function.get("parameters") or function.get("parametersJsonSchema") or {}
            for tool in body.get("tools") or ()
            for function in tool.get("functionDeclarations") or ()
        }
        choice = {"ANY": "any", "NONE": "none"}.get(calling.get("mode", "AUTO"), "auto")
        as_json = config.get("responseMimeType") == "application/json"
        return Asked(
            self._title,
            model,
            asked,
            result,
            tools,
            "one" if choice == "any" and len(allowed) == 1 else choice,
            allowed[0] if allowed else "",
            True,
            config.get("maxOutputTokens"),
            tuple(config.get("stopSequences") or ()),
            bool(thinking) and thinking.get("thinkingBudget") != 0,
            (config.get("responseJsonSchema") or config.get("responseSchema") or ANY_OBJECT) if as_json else None,
        )

    # ------------------------------------------------------------------------------------------------ errors

    def error(self, refusal: Refusal, serial: int) -> dict[str, Any]:
        """The body of an error."""
        error: dict[str, Any] = {"code": refusal.status, "message": refusal.message}
        error["status"] = _STATUSES.get(refusal.status, "UNAVAILABLE" if refusal.status >= 500 else "UNKNOWN")
        if refusal.status == 429:
            error["details"] = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "30s"}]
        return {"error": error}

    def too_long(self) -> Refusal:
        """What is said of a prompt that is too long."""
        return bad("The input token count (2500000) exceeds the maximum number of tokens allowed (1048576).")

    def against_policy(self) -> Refusal:
        """What is said of a question that is not answered."""
        return bad("The request was blocked by a content policy.")

    def count(self, body: dict[str, Any]) -> dict[str, Any] | None:
        """The answer to a count of tokens: of the turns, or of a whole request."""
        inner = body.get("generateContentRequest") or body
        return {"totalTokens": prompt_tokens(inner.get("tools"), inner.get("systemInstruction"), *inner["contents"])}

    def models(self, wanted: str) -> dict[str, Any]:
        """The list of models, or one of them."""
        methods = ["generateContent", "streamGenerateContent", "countTokens"]
        items = [
            {"name": f"models/{id}", "displayName": id, "inputTokenLimit": 1_048_576, "outputTokenLimit": 65_536}
            | {"supportedGenerationMethods": methods}
            for id in self._models
        ]
        if not wanted:
            return {"models": items}
        for item in items:
            if item["name"] == f"models/{wanted}":
                return item
        raise Refusal(404, "not_found_error", f"models/{wanted} is not found for API version v1beta")
