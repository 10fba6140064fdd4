"""
The stand-ins' voice in Gemini's generateContent: what the real one refuses, how it answers and how it streams.

Sources: the API description (one datum a part, counts of function responses, thought signatures of Gemini 3) and the
texts of its errors.
"""

from __future__ import annotations

import base64
import hmac
import re
from typing import Any

from .demo_said import Asked, Refusal, Said, bad, prompt_tokens, say, signature
from .demo_voice import Spelt, dump

_TOP = frozenset(
    (
        "contents",
        "systemInstruction",
        "tools",
        "toolConfig",
        "generationConfig",
        "safetySettings",
        "cachedContent",
        "labels",
        "serviceTier",
    )
)
_CONFIG = frozenset(
    (
        "temperature",
        "topP",
        "topK",
        "candidateCount",
        "maxOutputTokens",
        "stopSequences",
        "seed",
        "presencePenalty",
        "frequencyPenalty",
        "responseLogprobs",
        "logprobs",
        "responseMimeType",
        "responseSchema",
        "responseJsonSchema",
        "thinkingConfig",
        "mediaResolution",
        "responseModalities",
        "speechConfig",
        "imageConfig",
    )
)
_SCHEMA = frozenset(
    (
        "type",
        "format",
        "title",
        "description",
        "nullable",
        "enum",
        "items",
        "minItems",
        "maxItems",
        "properties",
        "required",
        "minProperties",
        "maxProperties",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "pattern",
        "example",
        "anyOf",
        "propertyOrdering",
        "default",
    )
)
_DATA = (
    "text",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
    "toolCall",
    "toolResponse",
)
_DUMMIES = frozenset(("skip_thought_signature_validator", "context_engineering_is_the_way_to_go"))
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}\Z")
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

    garbage = b'data: {"candidates": [{"con\r\n\r\n'

    def __init__(self, title: str, models: tuple[str, ...]) -> None:
        self._title = title
        self._models = models

    # ------------------------------------------------------------------------------------------------ rules

    def check(self, body: Any, fields: dict[str, str], counting: bool = False) -> None:
        """:raises Refusal: as the real one does."""
        if not isinstance(body, dict):
            raise bad("Invalid JSON payload received.")
        if counting:
            _only(body, frozenset(("contents", "generateContentRequest")), "")
            if "contents" not in body:
                raise bad("* CountTokensRequest.contents: contents is not specified")
            return
        _only(body, _TOP, "")
        config = body.get("generationConfig") or {}
        _only(config, _CONFIG, " at 'generation_config'")
        thinking = config.get("thinkingConfig") or {}
        if "thinkingBudget" in thinking and "thinkingLevel" in thinking:
            raise bad("You can only set only one of thinking budget and thinking level.")
        if len(config.get("stopSequences") or ()) > 5:
            raise bad("The number of stop sequences must be at most 5.")
        for name in ("responseSchema",):
            if name in config:
                _check_schema(config[name], "generation_config.response_schema")
        instruction = body.get("systemInstruction")
        if instruction is not None and not any(part.get("text") for part in instruction.get("parts") or ()):
            raise bad("* GenerateContentRequest.system_instruction: contents must not be empty")
        self._check_tools(body)
        self._check_contents(body.get("contents"), str(body.get(":model", "")))

    def _check_tools(self, body: dict[str, Any]) -> None:
        declared = 0
        for index, tool in enumerate(body.get("tools") or ()):
            for at, function in enumerate(tool.get("functionDeclarations") or ()):
                where = f"tools[{index}].function_declarations[{at}]"
                declared += 1
                if not _NAME.match(str(function.get("name"))):
                    raise bad(f"{where}.name: Invalid function name. Must start with a letter or an underscore.")
                if "parameters" in function and "parametersJsonSchema" in function:
                    raise bad(f"{where}: parameters and parameters_json_schema are mutually exclusive.")
                if "parameters" in function:
                    if not (function["parameters"].get("properties")):
                        raise bad(f"{where}.parameters.properties: should be non-empty for OBJECT type")
                    _check_schema(function["parameters"], f"{where}.parameters")
        calling = (body.get("toolConfig") or {}).get("functionCallingConfig") or {}
        if calling.get("mode") == "ANY" and not declared:
            raise bad("Function calling config is set without function_declarations.")

    def _check_contents(self, contents: Any, model: str) -> None:
        if not isinstance(contents, list) or not contents:
            raise bad("* GenerateContentRequest.contents: contents is not specified")
        previous, calls = "", 0
        start = self._current_turn(contents)
        for index, content in enumerate(contents):
            role = content.get("role", "user")
            parts = content.get("parts")
            if role not in ("user", "model", "function"):
                raise bad("Please use a valid role: user, model.")
            if not isinstance(parts, list) or not parts:
                raise bad(f"* GenerateContentRequest.contents[{index}].parts: contents.parts must not be empty.")
            for part in parts:
                kinds = [name for name in _DATA if name in part]
                if len(kinds) != 1 or (part.get("text") == "" and "thoughtSignature" not in part):
                    words = "required oneof field 'data' must have one initialized field"
                    raise bad(f"* GenerateContentRequest.contents[{index}].parts[0].data: {words}")
                self._check_signature(part)
            given = sum("functionResponse" in part for part in parts)
            if given and (previous != "model" or given != calls):
                raise bad(
                    "Please ensure that the number of function response parts is equal to the number of function call "
                    "parts of the function call turn."
                )
            if previous == "model" and calls and not given:
                raise bad("Please ensure that function call turn is immediately followed by function response turn.")
            calls = sum("functionCall" in part for part in parts)
            if role == "model" and calls and index >= start and model.startswith("gemini-3"):
                first = next(part for part in parts if "functionCall" in part)
                if not first.get("thoughtSignature"):
                    words = "Function call is missing a thought_signature in functionCall parts."
                    raise bad(f"{words} This is required for tools to work correctly.")
            previous = role
        if previous == "model":
            raise bad("Please ensure that the last content is of role user.")

    @staticmethod
    def _current_turn(contents: list[Any]) -> int:
        for index in range(len(contents) - 1, -1, -1):
            parts = contents[index].get("parts") or ()
            if contents[index].get("role", "user") == "user" and any("functionResponse" not in part for part in parts):
                return index
        return 0

    def _check_signature(self, part: dict[str, Any]) -> None:
        given = part.get("thoughtSignature")
        if given is None or given in _DUMMIES:
            return
        try:
            text = base64.b64decode(given, validate=True).decode()
        except (ValueError, TypeError):
            raise bad(
                "Invalid value at 'contents.parts.thought_signature' (TYPE_BYTES), Base64 decoding failed"
            ) from None
        if text in _DUMMIES:
            return
        id, _, seal = text.rpartition("|")
        if not hmac.compare_digest(seal.encode(), signature("gemini", id).encode()):
            raise bad("Corrupted thought signature.")

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
        sign = base64.b64encode(f"{serial}|{signature('gemini', str(serial))}".encode()).decode()
        parts, pieces = self._parts(said, serial, sign, thinking.get("includeThoughts") is True)
        stop = "MAX_TOKENS" if said.stop == "length" else "STOP"

        def value(each: list[dict[str, Any]], finish: str | None, counts: dict[str, int]) -> dict[str, Any]:
            candidate: dict[str, Any] = {"content": {"role": "model", "parts": each}, "index": 0}
            if finish is not None:
                candidate["finishReason"] = finish
            return {"candidates": [candidate], "usageMetadata": counts, **frame}

        first = {"promptTokenCount": prompt, "totalTokenCount": prompt}
        chunks = [value([piece], None, first) for piece in pieces]
        chunks.append(value([{"text": ""}], stop, usage))
        stream = body.get(":stream", "")
        if stream == "array":
            text = [dump(chunk) for chunk in chunks]
            events = [b"[" + text[0], *[b"\n,\r\n" + each for each in text[1:]], b"\n]\n"]
            return Spelt(value(parts, stop, usage), events, True, "application/json; charset=UTF-8")
        events = [b"data: " + dump(chunk) + b"\r\n\r\n" for chunk in chunks]
        return Spelt(value(parts, stop, usage), events, stream == "sse", "text/event-stream")

    @staticmethod
    def _parts(said: Said, serial: int, sign: str, show: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        parts: list[dict[str, Any]] = []
        pieces: list[dict[str, Any]] = []
        if said.thought and show:
            parts.append({"text": said.thought, "thought": True})
            pieces += [{"text": piece, "thought": True} for piece in re.findall(r"\S+\s*", said.thought)]
        if said.words:
            parts.append({"text": said.text})
            pieces += [{"text": word} for word in said.words]
        for at, (name, made) in enumerate(said.calls):
            call: dict[str, Any] = {"functionCall": {"id": f"fc-{serial}-{at}", "name": name, "args": made}}
            if at == 0:
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
                elif part.get("text") and not asked:
                    asked = part["text"].strip()
        calling = (body.get("toolConfig") or {}).get("functionCallingConfig") or {}
        allowed = calling.get("allowedFunctionNames") or ()
        tools = {
            function["name"]: function.get("parameters") or function.get("parametersJsonSchema") or {}
            for tool in body.get("tools") or ()
            for function in tool.get("functionDeclarations") or ()
        }
        choice = {"ANY": "any", "NONE": "none"}.get(calling.get("mode", "AUTO"), "auto")
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
        )

    # ------------------------------------------------------------------------------------------------ errors

    def error(self, refusal: Refusal, serial: int) -> dict[str, Any]:
        """The body of an error."""
        error: dict[str, Any] = {"code": refusal.status, "message": refusal.message}
        error["status"] = _STATUSES.get(refusal.status, "UNKNOWN")
        if refusal.status == 429:
            error["details"] = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "30s"}]
        return {"error": error}

    def error_event(self, refusal: Refusal, serial: int) -> bytes:
        """The same inside a stream."""
        return b"data: " + dump(self.error(refusal, serial)) + b"\r\n\r\n"

    def too_long(self) -> Refusal:
        """What is said of a prompt that is too long."""
        return bad("The input token count (2500000) exceeds the maximum number of tokens allowed (1048576).")

    def against_policy(self) -> Refusal:
        """What is said of a question that is not answered."""
        return bad("The request was blocked by a content policy.")

    def count(self, body: dict[str, Any]) -> dict[str, Any] | None:
        """The answer to a count of tokens, or ``None`` where nobody counts."""
        return {"totalTokens": prompt_tokens(*body["contents"])}

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


_OPAQUE = frozenset(("args", "response", "parametersJsonSchema", "responseJsonSchema", "parameters", "responseSchema"))


def camel(value: Any) -> Any:
    """A request with its members in the usual spelling: the real one takes ``snake_case`` too."""
    if isinstance(value, list):
        return [camel(each) for each in value]
    if not isinstance(value, dict):
        return value
    result = {}
    for name, inner in value.items():
        head, *rest = name.split("_")
        name = head + "".join(word.capitalize() for word in rest)
        result[name] = inner if name in _OPAQUE else camel(inner)
    return result


def _only(value: dict[str, Any], known: frozenset[str], where: str) -> None:
    for name in value:
        if name not in known and not name.startswith(":"):
            raise bad(f'Invalid JSON payload received. Unknown name "{name}"{where}: Cannot find field.')


def _check_schema(schema: Any, where: str) -> None:
    if not isinstance(schema, dict):
        raise bad(f"Invalid value at '{where}' (type.googleapis.com/google.ai.generativelanguage.v1beta.Schema)")
    for name in schema:
        if name not in _SCHEMA:
            raise bad(f"Invalid JSON payload received. Unknown name \"{name}\" at '{where}': Cannot find field.")
    kind = schema.get("type")
    if kind is not None and not isinstance(kind, str):
        raise bad(f"Invalid JSON payload received. Proto field is not repeating, cannot start list. ('{where}.type')")
    if any(not isinstance(each, str) or not each for each in schema.get("enum") or ()):
        raise bad(f"Invalid value at '{where}.enum': cannot be empty")
    if str(kind).lower() == "array" and "items" not in schema:
        raise bad(f"{where}.items: missing field.")
    for name, inner in (schema.get("properties") or {}).items():
        _check_schema(inner, f"{where}.properties[{name}]")
    if "items" in schema:
        _check_schema(schema["items"], f"{where}.items")
    for at, inner in enumerate(schema.get("anyOf") or ()):
        _check_schema(inner, f"{where}.any_of[{at}]")
    for name in schema.get("required") or ():
        if name not in (schema.get("properties") or {}):
            raise bad(f"{where}.required[0]: property is not defined")
