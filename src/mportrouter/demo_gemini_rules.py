"""
What the Gemini stand-in refuses of a request that has the right form: the order of turns, thought signatures, and
what a model does not do.

Sources: the API description (one datum a part, counts of function responses, thought signatures since Gemini 3) and
the texts of the errors.
"""

from __future__ import annotations

import hmac
import re
from typing import Any

from .demo_protos import decoded, read
from .demo_said import Refusal, bad, signature

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
_BUILT_IN = ("googleSearch", "googleSearchRetrieval", "codeExecution", "urlContext", "fileSearch", "googleMaps")
#: What may stand in place of a signature that never was.
_DUMMIES = ("skip_thought_signature_validator", "context_engineering_is_the_way_to_go")
_DUMMY_BYTES = frozenset((*(each.encode() for each in _DUMMIES), *(decoded(each) for each in _DUMMIES)))
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}\Z")
_MAJOR = re.compile(r"gemini-(\d+)")
_MEDIA = re.compile(
    r"image/(?:png|jpe?g|webp|heic|heif)|audio/[\w.+-]+|video/[\w.+-]+|text/[\w.+-]+|application/(?:pdf|json|rtf|"
    r"x-javascript|x-python)"
)
_OWN_FILES = re.compile(
    r"gs://|https://generativelanguage\.googleapis\.com/|https?://(?:www\.)?(?:youtube\.com|youtu\.be)/"
)
_MIME_TYPES = ("text/plain", "application/json", "application/xml", "application/yaml", "text/x.enum")
_REQUEST = "* GenerateContentRequest"


def major(model: str) -> int:
    """The generation of a model, 0 for one that is none of theirs."""
    found = _MAJOR.match(model)
    return int(found.group(1)) if found else 0


def checked(body: Any, counting: bool) -> dict[str, Any]:
    """
    :param body: the request, with the model of its path as ``":model"``.
    :param counting: its tokens are to be counted.
    :returns: the request in the usual spelling.
    :raises Refusal: the first rule that it breaks.
    """
    if not isinstance(body, dict):
        raise bad("Invalid JSON payload received. Expected an object.")
    own = {name: value for name, value in body.items() if name.startswith(":")}
    given = {name: value for name, value in body.items() if name not in own}
    if counting:
        return {**_counted(given), **own}
    request: dict[str, Any] = read(given, "GenerateContentRequest")
    _Request(request, str(own.get(":model", ""))).check()
    return {**request, **own}


def _counted(given: dict[str, Any]) -> dict[str, Any]:
    request: dict[str, Any] = read(given, "CountTokensRequest")
    inner = request.get("generateContentRequest")
    if inner is not None:
        if request.get("contents"):
            raise bad("Cannot specify both contents and generate_content_request.")
        if not str(inner.get("model", "")).startswith(("models/", "tunedModels/")):
            words = "generate_content_request.model: unexpected model name format"
            raise bad(f"* CountTokensRequest.{words}")
        _Request(inner, inner["model"].partition("/")[2]).check()
    elif not request.get("contents"):
        raise bad("* CountTokensRequest.contents: contents is not specified")
    return request


class _Request:
    """:param model: without ``models/``."""

    def __init__(self, request: dict[str, Any], model: str) -> None:
        self._request = request
        self._model = model
        self._major = major(model)

    def check(self) -> None:
        request = self._request
        if request.get("cachedContent"):
            raise Refusal(403, "permission_error", "CachedContent not found (or permission denied)")
        self._check_config(request.get("generationConfig") or {})
        instruction = request.get("systemInstruction")
        if instruction is not None:
            if not instruction.get("parts"):
                raise bad(f"{_REQUEST}.system_instruction.parts: contents.parts must not be empty.")
            for at, part in enumerate(instruction["parts"]):
                self._check_part(f"system_instruction.parts[{at}]", part)
        self._check_tools(request.get("tools") or [])
        self._check_contents(request.get("contents") or [])

    # ------------------------------------------------------------------------------------------------ options

    def _check_config(self, config: dict[str, Any]) -> None:
        for name, low, high in (("temperature", 0, 2), ("topP", 0, 1)):
            if not low <= config.get(name, low) <= high:
                raise bad(f"{_REQUEST}.generation_config.{name}: must be in the range [{low}, {high}].")
        if config.get("candidateCount", 1) != 1:
            raise bad("Multiple candidates is not enabled for this model")
        if config.get("maxOutputTokens", 1) < 1:
            raise bad("max_output_tokens must be positive.")
        if config.get("maxOutputTokens", 1) > 65_536:
            raise bad("max_output_tokens must be in the supported range from 1 (inclusive) to 65537 (exclusive).")
        if len(config.get("stopSequences") or ()) > 5:
            raise bad("The number of stop sequences must be at most 5.")
        self._check_thinking(config.get("thinkingConfig") or {})
        kind = config.get("responseMimeType", "text/plain")
        if kind not in _MIME_TYPES:
            allowed = ", ".join(f"`{each}`" for each in _MIME_TYPES)
            raise bad(f"{_REQUEST}.generation_config.response_mime_type: allowed mimetypes are {allowed}.")
        schemas = [name for name in ("responseSchema", "responseJsonSchema") if config.get(name) is not None]
        if len(schemas) > 1:
            raise bad("response_schema and response_json_schema cannot both be set.")
        if schemas and kind not in ("application/json", "text/x.enum"):
            raise bad(f"{_REQUEST}.generation_config.response_schema: only with response_mime_type application/json.")
        if "responseSchema" in config:
            _check_schema(config["responseSchema"], "generation_config.response_schema")
        if kind == "application/json" and self._request.get("tools") and 0 < self._major < 3:
            raise bad("Tool use with a response mime type: 'application/json' is unsupported")

    def _check_thinking(self, thinking: dict[str, Any]) -> None:
        budget, level = thinking.get("thinkingBudget"), thinking.get("thinkingLevel")
        if budget is not None and level is not None:
            raise bad("You can only set only one of thinking budget and thinking level.")
        if level is not None and 0 < self._major < 3:
            raise bad("Thinking level is not supported for this model.")
        if thinking and (self._major == 1 or self._model.startswith("gemini-2.0")):
            raise bad("Thinking is not enabled for this model.")
        if budget == 0 and thinking.get("includeThoughts"):
            raise bad("include_thoughts is only enabled when thinking is enabled.")
        if budget is None or budget == -1 or not self._model.startswith("gemini-2.5"):
            return
        low, high = (128, 32768) if "pro" in self._model else (512 if "lite" in self._model else 1, 24576)
        if not low <= budget <= high and not (budget == 0 and "pro" not in self._model):
            raise bad(f"The thinking budget {budget} is invalid. Please choose a value between {low} and {high}.")

    def _check_tools(self, tools: list[dict[str, Any]]) -> None:
        declared: set[str] = set()
        for index, tool in enumerate(tools):
            if not any(name != "functionDeclarations" or each for name, each in tool.items()):
                words = "required one_of 'tool_type' must have one initialized field"
                raise bad(f"{_REQUEST}.tools[{index}].tool_type: {words}")
            for at, function in enumerate(tool.get("functionDeclarations") or ()):
                where = f"tools[{index}].function_declarations[{at}]"
                name = function.get("name", "")
                if not _NAME.match(name):
                    raise bad(
                        f"{_REQUEST}.{where}.name: Invalid function name. Must start with a letter or an underscore."
                    )
                if name in declared:
                    raise bad(f"Duplicate function declaration found: {name}")
                declared.add(name)
                if "parameters" in function and "parametersJsonSchema" in function:
                    raise bad(f"{_REQUEST}.{where}: parameters and parameters_json_schema are mutually exclusive.")
                if "parameters" in function:
                    place = f"{_REQUEST}.{where}.parameters"
                    if function["parameters"].get("type") == "OBJECT" and not function["parameters"].get("properties"):
                        raise bad(f"{place}.properties: should be non-empty for OBJECT type")
                    _check_schema(function["parameters"], place)
                schema = function.get("parametersJsonSchema")
                if schema is not None and (not isinstance(schema, dict) or schema.get("type", "object") != "object"):
                    raise bad(
                        f"{_REQUEST}.{where}.parameters_json_schema: only an object can be a function's parameters."
                    )
        self._check_together(tools, declared)
        self._check_calling(declared)

    def _check_together(self, tools: list[dict[str, Any]], declared: set[str]) -> None:
        built_in = any(name in tool for tool in tools for name in _BUILT_IN)
        if not built_in or not declared:
            return
        if 0 < self._major < 3:
            raise bad("Tool use with function calling is unsupported")
        if not (self._request.get("toolConfig") or {}).get("includeServerSideToolInvocations"):
            words = "to use Built-in tools with Function calling."
            raise bad(f"Please enable tool_config.include_server_side_tool_invocations {words}")

    def _check_calling(self, declared: set[str]) -> None:
        calling = (self._request.get("toolConfig") or {}).get("functionCallingConfig") or {}
        mode, allowed = calling.get("mode", "AUTO"), calling.get("allowedFunctionNames") or ()
        if mode in ("ANY", "VALIDATED") and not declared:
            raise bad("Function calling config is set without function_declarations.")
        if allowed and mode not in ("ANY", "VALIDATED"):
            raise bad("Function calling mode must be ANY or VALIDATED where allowed_function_names is set.")
        for name in allowed:
            if name not in declared:
                raise bad(f"allowed_function_names: '{name}' is not among the function_declarations.")

    # ------------------------------------------------------------------------------------------------ contents

    def _check_contents(self, contents: list[dict[str, Any]]) -> None:
        if not contents:
            raise bad(f"{_REQUEST}.contents: contents is not specified")
        previous, calls = "", 0
        start = _current_turn(contents)
        for index, content in enumerate(contents):
            role, parts = content.get("role") or "user", content.get("parts") or []
            if role not in ("user", "model", "function"):
                raise bad("Please use a valid role: user, model.")
            if not parts:
                raise bad(f"{_REQUEST}.contents[{index}].parts: contents.parts must not be empty.")
            for at, part in enumerate(parts):
                self._check_part(f"contents[{index}].parts[{at}]", part)
            if index == 0 and role == "model":
                raise bad("Please ensure that multiturn requests start with a user turn.")
            given = sum("functionResponse" in part for part in parts)
            if given and (previous != "model" or given != calls):
                words = "is equal to the number of function call parts of the function call turn."
                raise bad(f"Please ensure that the number of function response parts {words}")
            if previous == "model" and calls and not given:
                raise bad("Please ensure that function call turn is immediately followed by function response turn.")
            calls = sum("functionCall" in part for part in parts)
            if calls and role != "model":
                raise bad("Please ensure that function call parts are in a turn of role model.")
            if calls and previous == "model":
                words = "comes immediately after a user turn or after a function response turn."
                raise bad(f"Please ensure that function call turn {words}")
            if given and role == "model":
                raise bad("Please ensure that function response parts are in a turn of role user.")
            if calls and index >= start and self._major >= 3:
                at, first = next((at, part) for at, part in enumerate(parts) if "functionCall" in part)
                if not first.get("thoughtSignature"):
                    words = "This is required for tools to work correctly, and missing thought_signature may lead to "
                    raise bad(
                        f"Function call is missing a thought_signature in functionCall parts. {words}degraded model "
                        f"performance. Additional data, function call `{first['functionCall']['name']}`, position "
                        f"{at + 1}."
                    )
            previous = role
        if previous == "model":
            raise bad("Please ensure that multiturn requests end with a user turn or a function response.")

    def _check_part(self, where: str, part: dict[str, Any]) -> None:
        place = f"{_REQUEST}.{where}"
        kinds = [name for name in _DATA if name in part]
        if len(kinds) > 1:
            raise bad(f"Invalid value at '{where}' (oneof), oneof field 'data' is already set.")
        if not kinds or (part.get("text") == "" and not part.get("thoughtSignature")):
            raise bad(f"{place}.data: required oneof field 'data' must have one initialized field")
        for name, spelt in (("functionCall", "function_call"), ("functionResponse", "function_response")):
            if name in part and not part[name].get("name"):
                raise bad(f"{place}.{spelt}.name: Name cannot be empty.")
        if "inlineData" in part:
            _check_blob(part["inlineData"])
        if "fileData" in part:
            self._check_file(place, part["fileData"])
        response = part.get("functionResponse") or {}
        if "functionResponse" in part and "response" not in response:
            raise bad(f"{place}.function_response.response: response is not specified")
        for inner in response.get("parts") or ():
            if 0 < self._major < 3:
                raise bad("Multimodal function responses are not supported for this model.")
            _check_blob(inner.get("inlineData") or {})
        self._check_signature(part)

    def _check_file(self, place: str, file: dict[str, Any]) -> None:
        address = file.get("fileUri", "")
        if not address:
            raise bad(f"{place}.file_data.file_uri: file_uri must not be empty.")
        if address.startswith("http") and not _OWN_FILES.match(address):
            raise bad(f"Invalid or unsupported file uri: {address[:200]}")

    @staticmethod
    def _check_signature(part: dict[str, Any]) -> None:
        given = part.get("thoughtSignature")
        if not given:
            return
        value = decoded(given)
        if value in _DUMMY_BYTES or value is None:
            return
        id, _, seal = value.decode("utf-8", "replace").rpartition("|")
        if not hmac.compare_digest(seal.encode(), signature("gemini", id).encode()):
            raise bad("Corrupted thought signature.")


def _current_turn(contents: list[dict[str, Any]]) -> int:
    """Where the turn begins that is still under way: at the last content of the user's own."""
    for index in range(len(contents) - 1, -1, -1):
        parts = contents[index].get("parts") or ()
        own = (contents[index].get("role") or "user") == "user"
        if own and any("functionResponse" not in part for part in parts):
            return index
    return 0


def _check_blob(blob: dict[str, Any]) -> None:
    kind = blob.get("mimeType", "")
    if not _MEDIA.fullmatch(kind.partition(";")[0].strip()):
        raise bad(f"Unsupported MIME type: {kind}")
    if not blob.get("data"):
        raise bad("Unable to process input image. Please retry or report in the forum")


def _check_schema(schema: dict[str, Any], where: str) -> None:
    """What a schema must be beyond its members; references make the rest the reader's business."""
    kind = schema.get("type")
    if any(not each for each in schema.get("enum") or ()):
        raise bad(f"{where}.enum[0]: cannot be empty")
    if schema.get("enum") and kind not in (None, "STRING"):
        raise bad(f"{where}.enum: only allowed for STRING type")
    if kind == "STRING" and schema.get("format") not in (None, "", "enum", "date-time"):
        raise bad(f"{where}.format: only 'enum' and 'date-time' are supported for STRING type")
    if kind == "ARRAY" and "items" not in schema:
        raise bad(f"{where}.items: missing field.")
    properties = schema.get("properties") or {}
    if properties and kind not in (None, "OBJECT"):
        raise bad(f"{where}.properties: only allowed for OBJECT type")
    for name, inner in properties.items():
        _check_schema(inner, f"{where}.properties[{name}]")
    if "items" in schema:
        _check_schema(schema["items"], f"{where}.items")
    for at, inner in enumerate(schema.get("anyOf") or ()):
        _check_schema(inner, f"{where}.any_of[{at}]")
    for at, name in enumerate(schema.get("required") or ()):
        if name not in properties:
            raise bad(f"{where}.required[{at}]: property is not defined")
