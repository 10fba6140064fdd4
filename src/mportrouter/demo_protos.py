"""
Gemini's requests as what they are, protocol buffers in JSON: which members each message has, and how they are read.

Members are taken in both spellings (``camelCase`` and ``snake_case``), a single value where there may be several,
``null`` for none, numbers as text, words of a list in any case; an unknown member is refused. What is read has the
usual spelling.

Source: the API description (``google.ai.generativelanguage.v1beta``) and the mapping of protocol buffers to JSON.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from .demo_said import Refusal, bad

#: Fields of the messages: a scalar (``text``, ``bytes``, ``int``, ``number``, ``flag``), ``object``, ``any``, a list of
#: words ``A|B``, another message, ``[…]`` for several and ``{…}`` for a map to them.
_MESSAGES: dict[str, str] = {
    "GenerateContentRequest": "model:text contents:[Content] systemInstruction:Content tools:[Tool] "
    "toolConfig:ToolConfig generationConfig:GenerationConfig safetySettings:[SafetySetting] cachedContent:text "
    "serviceTier:text store:flag",
    "CountTokensRequest": "model:text contents:[Content] generateContentRequest:GenerateContentRequest",
    "Content": "role:text parts:[Part]",
    "Part": "text:text thought:flag thoughtSignature:bytes inlineData:Blob fileData:FileData functionCall:FunctionCall "
    "functionResponse:FunctionResponse executableCode:object codeExecutionResult:object toolCall:object "
    "toolResponse:object videoMetadata:object partMetadata:object mediaResolution:any",
    "Blob": "mimeType:text data:bytes",
    "FileData": "mimeType:text fileUri:text",
    "FunctionCall": "id:text name:text args:object",
    "FunctionResponse": "id:text name:text response:object parts:[ResponsePart] willContinue:flag "
    "scheduling:SILENT|WHEN_IDLE|INTERRUPT",
    "ResponsePart": "inlineData:ResponseBlob fileData:FileData",
    "ResponseBlob": "mimeType:text data:bytes displayName:text",
    "Tool": "functionDeclarations:[FunctionDeclaration] googleSearch:object googleSearchRetrieval:object "
    "codeExecution:object urlContext:object computerUse:object fileSearch:object googleMaps:object mcpServers:[object]",
    "FunctionDeclaration": "name:text description:text behavior:BLOCKING|NON_BLOCKING parameters:Schema "
    "parametersJsonSchema:any response:Schema responseJsonSchema:any",
    "ToolConfig": "functionCallingConfig:FunctionCallingConfig retrievalConfig:object "
    "includeServerSideToolInvocations:flag",
    "FunctionCallingConfig": "mode:MODE_UNSPECIFIED|AUTO|ANY|NONE|VALIDATED allowedFunctionNames:[text]",
    "GenerationConfig": "temperature:number topP:number topK:number candidateCount:int maxOutputTokens:int "
    "stopSequences:[text] seed:int presencePenalty:number frequencyPenalty:number responseLogprobs:flag logprobs:int "
    "responseMimeType:text responseSchema:Schema responseJsonSchema:any thinkingConfig:ThinkingConfig "
    "mediaResolution:text responseModalities:[text] speechConfig:object imageConfig:object "
    "enableEnhancedCivicAnswers:flag",
    "ThinkingConfig": "includeThoughts:flag thinkingBudget:int "
    "thinkingLevel:THINKING_LEVEL_UNSPECIFIED|MINIMAL|LOW|MEDIUM|HIGH|XHIGH",
    "SafetySetting": "category:text threshold:text",
    "Schema": "type:TYPE_UNSPECIFIED|STRING|NUMBER|INTEGER|BOOLEAN|ARRAY|OBJECT|NULL format:text title:text "
    "description:text nullable:flag enum:[text] items:Schema minItems:int maxItems:int properties:{Schema} "
    "required:[text] minProperties:int maxProperties:int minimum:number maximum:number minLength:int maxLength:int "
    "pattern:text example:any anyOf:[Schema] propertyOrdering:[text] default:any additionalProperties:any "
    "ref:text defs:{Schema}",
}
_FIELDS = {
    name: {field.partition(":")[0]: field.partition(":")[2] for field in fields.split()}
    for name, fields in _MESSAGES.items()
}
#: References have names that no rule of spelling gives.
_ODD = {"$ref": "ref", "$defs": "defs"}
_BACK = {"ref": "$ref", "defs": "$defs"}
_CAPITAL = re.compile(r"(?<=[a-z0-9])([A-Z])")
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?\Z")


def read(value: Any, message: str, where: str = "") -> Any:
    """
    A value as the message that it is to be.

    :param where: its place, in the provider's spelling.
    :raises Refusal: a member that the message does not have, or that has another type.
    """
    if not isinstance(value, dict):
        raise _invalid(where, f"type.googleapis.com/google.ai.generativelanguage.v1beta.{message}", value)
    fields = _FIELDS[message]
    result: dict[str, Any] = {}
    for name, inner in value.items():
        usual = _ODD.get(name, _camel(name)) if message == "Schema" else _camel(name)
        if usual not in fields or (message == "Schema" and name in _BACK):
            place = f" at '{where}'" if where else ""
            raise bad(f'Invalid JSON payload received. Unknown name "{name}"{place}: Cannot find field.')
        if inner is None:
            continue
        place = f"{where}.{_snake(usual)}" if where else _snake(usual)
        spelt = _BACK.get(usual, usual) if message == "Schema" else usual
        if spelt in result:
            raise bad(f"Invalid JSON payload received. '{place}' is set twice.")
        result[spelt] = _field(inner, fields[usual], place)
    return result


def _field(value: Any, kind: str, where: str) -> Any:
    if kind.startswith("["):
        if not isinstance(value, list):
            value = [value]
        inner = kind[1:-1]
        if inner in ("text", "object"):
            return [_scalar(each, inner, f"{where}[{at}]") for at, each in enumerate(value)]
        return [read(each, inner, f"{where}[{at}]") for at, each in enumerate(value)]
    if isinstance(value, list) and kind not in ("any", "object"):
        words = "Proto field is not repeating, cannot start list."
        raise bad(f"Invalid JSON payload received. Unknown name \"{where.rpartition('.')[2]}\" at '{where}': {words}")
    if kind.startswith("{"):
        if not isinstance(value, dict):
            raise _invalid(where, "Map", value)
        return {name: read(each, kind[1:-1], f"{where}[{name}]") for name, each in value.items()}
    return read(value, kind, where) if kind in _FIELDS else _scalar(value, kind, where)


def _scalar(value: Any, kind: str, where: str) -> Any:
    fits: bool
    if kind == "any":
        return value
    if kind == "object":
        fits = isinstance(value, dict)
    elif kind == "flag":
        fits = isinstance(value, bool)
    elif kind in ("int", "number"):
        if isinstance(value, str) and _NUMBER.match(value):
            value = float(value)
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
        if fits and kind == "int":
            fits = int(value) == value and -(2**31) <= value < 2**31
            value = int(value) if fits else value
    elif kind == "bytes":
        fits = isinstance(value, str) and decoded(value) is not None
    elif kind == "text":
        fits = isinstance(value, str)
    else:
        fits = isinstance(value, str) and value.upper() in kind.split("|")
        value = value.upper() if fits else value
    if not fits:
        if kind == "bytes" and isinstance(value, str):
            raise bad(f"Invalid value at '{where}' (TYPE_BYTES), Base64 decoding failed for \"{value[:40]}\"")
        names = {"text": "TYPE_STRING", "int": "TYPE_INT32", "number": "TYPE_FLOAT", "flag": "TYPE_BOOL"}
        raise _invalid(where, names.get(kind, "type.googleapis.com/google.protobuf.Struct"), value)
    return value


def decoded(text: str) -> bytes | None:
    """The bytes of a text in base64 of either alphabet, padded or not; ``None`` where it is none."""
    text = text.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _invalid(where: str, kind: str, value: Any) -> Refusal:
    if not where:
        return bad("Invalid JSON payload received. Expected an object.")
    return bad(f"Invalid value at '{where}' ({kind}), {str(value)[:80]!r}")


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word[:1].upper() + word[1:] for word in rest)


def _snake(name: str) -> str:
    return _CAPITAL.sub(lambda found: "_" + found.group(1).lower(), name)
