"""MultiRouter's ``providers.yaml`` and ``.env``: accounts in order, and the gateway in front of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .config_places import Value, Wrong
from .config_words import (
    Reader,
    base_url,
    count,
    is_loopback,
    items,
    level,
    list_of,
    one_of,
    plain,
    port_number,
    scalar,
    text_of,
    whole,
)
from .importing_draft import Draft, ForeignSections, host_of, is_example, variable_for

#: Their types to providers of the catalogue.
_TYPES = {
    **{name: name for name in ("groq", "cerebras", "openai", "openrouter", "gemini")},
    "openai-compatible": "custom",
}
_ROUTING: dict[str, Reader] = {
    "default_strategy": scalar(one_of("exhaust", "round-robin")),
    "retry_after_seconds": scalar(count),
}
_ACCOUNT: dict[str, Reader] = {
    "id": scalar(plain),
    "type": scalar(one_of(*_TYPES)),
    "base_url": scalar(base_url),
    "models": list_of(plain),
}
#: Variables of their ``.env`` that are the server's own.
_SERVER = ("PORT", "LOG_LEVEL", "RATE_LIMIT_MAX", "API_KEY")


def read_stack(whole: Value, reading: ForeignSections, draft: Draft, env: Mapping[str, str]) -> None:
    """
    :param whole: the file.
    :param draft: what it becomes.
    :param env: the ``.env`` beside it.
    """
    children = reading.children(whole)
    reading.keys({key: value for key, value in children.items() if key not in ("routing", "providers")}, {})
    routing = reading.keys(reading.children(children["routing"]), _ROUTING) if "routing" in children else {}
    names: list[str] = []
    for entry in items(children["providers"]):
        _account(entry, reading, draft, names)
    port, logs = _server(reading, draft, env)
    draft.sections = {
        "ports": {port.pop("port"): {"mode": "stacked", **port}},
        "modes": {
            "stacked": {
                "strategy": routing.get("default_strategy", "exhaust"),
                "upstreams": names,
                "auto_model": "multirouter-auto",
                "retry_after_seconds": routing.get("retry_after_seconds", 300),
            }
        },
        **draft.sections,
        **logs,
    }


def _account(entry: Value, reading: ForeignSections, draft: Draft, names: list[str]) -> None:
    children = dict(reading.children(entry))
    key = children.pop("api_key", None)
    switch = children.pop("enabled", None)
    if switch is not None and switch.content in (False, "false"):
        draft.notes.append(f"{entry.place}: {entry.path} is switched off and was left out")
        return
    if children.pop("priority", None) is not None:
        told = "their order in the file counts, as there; priority was left out"
        if not any(note.endswith(told) for note in draft.notes):
            draft.notes.append(f"{entry.place}: {told}")
    got = reading.keys(children, _ACCOUNT)
    for name in ("id", "type"):
        if name not in children and isinstance(entry.content, dict):
            reading.mistakes.add(entry.place, f"{entry.path}: {name} is needed")
    if not {"id", "type"} <= got.keys():
        return
    id, provider = got["id"], _TYPES[got["type"]]
    if id in names:
        reading.mistakes.add(entry.place, f"{entry.path}.id: {id!r} is there twice")
        return
    if provider == "custom" and "base_url" not in children:
        reading.mistakes.add(entry.place, f"{entry.path}: base_url is needed")
        return
    names.append(id)
    upstream = draft.upstream(id)
    upstream["provider"] = provider
    if provider != "gemini":
        upstream["dialect"] = "openai-chat"
    if "base_url" in got:
        upstream["base_url"] = got["base_url"]
    _key(id, key, upstream, reading, draft)
    if got.get("models"):
        upstream["models"] = list(dict.fromkeys(got["models"]))


def _key(id: str, key: Value | None, upstream: dict[str, Any], reading: ForeignSections, draft: Draft) -> None:
    """A variable in place of the key; one that is there already keeps its name."""
    if key is not None and key.variable is not None:
        value = key.content if isinstance(key.content, str) and key.content and not key.unset else None
        upstream["api_key"] = draft.reference(key.variable, value)
        return
    text = ""
    if key is not None and key.content is not None:
        try:
            text = text_of(key).strip()
        except Wrong as wrong:
            reading.wrong(key, wrong)
            return
    if not text and is_loopback(host_of(upstream.get("base_url", ""))):
        upstream["auth_style"] = "none"
    elif not text or is_example(text):
        upstream["api_key"] = draft.reference(variable_for(id), None)
    else:
        upstream["api_key"] = draft.reference(variable_for(id), text)


def _server(
    reading: ForeignSections, draft: Draft, env: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The port, and the section of logs, of what ``.env`` says of the server."""
    said: dict[str, Any] = {}
    for name, parse in (("PORT", port_number), ("LOG_LEVEL", level), ("RATE_LIMIT_MAX", whole)):
        if not env.get(name):
            continue
        try:
            said[name] = parse(env[name])
        except Wrong as wrong:
            reading.mistakes.add(f".env {name}", str(wrong))
    port: dict[str, Any] = {"port": said.get("PORT", 3000)}
    if env.get("API_KEY"):
        port["token"] = draft.reference("GATEWAY_TOKEN", env["API_KEY"])
        draft.notes.append("API_KEY of .env is the token that clients send; here its variable is GATEWAY_TOKEN")
    limit = said.get("RATE_LIMIT_MAX", 100)
    port["client_limit"] = f"{limit}/min" if limit else 0
    return port, {"logs": {"level": said["LOG_LEVEL"]}} if "LOG_LEVEL" in said else {}
