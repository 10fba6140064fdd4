"""claude-multi-proxy's ``config.json``: what a sub-agent's tag may name, and the lines of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import catalog
from .config_places import Value, Wrong
from .config_words import Reader, base_url, boolean, list_of, money, plain, port_number, scalar, text_of
from .importing_draft import Draft, ForeignSections, is_example, variable_for, whose

_PROVIDER: dict[str, Reader] = {
    "passthrough": scalar(boolean),
    "baseUrl": scalar(base_url),
    "authFile": scalar(plain),
    "models": list_of(plain),
}
_PRICES = {"input": "input", "output": "output", "cacheRead": "cache_read", "cacheCreation": "cache_write_5m"}
_COSTS: dict[str, Reader] = dict.fromkeys(_PRICES, scalar(money))
#: The end of an address that a dialect is spoken at, to the dialect.
_ENDS = {"/chat/completions": "openai-chat", "/responses": "openai-responses", "/messages": "anthropic"}
_MAIN = "anthropic"


def read_tags(whole: Value, reading: ForeignSections, draft: Draft, env: Mapping[str, str]) -> None:
    """
    :param whole: the file.
    :param draft: what it becomes.
    :param env: the ``.env`` beside it.
    """
    children = reading.children(whole)
    top = reading.keys(
        {key: value for key, value in children.items() if key not in ("providers", "usage")},
        {"port": scalar(port_number)},
    )
    providers = reading.children(children["providers"])
    if _MAIN not in providers:
        draft.upstream(_MAIN).update({"provider": _MAIN, "auth": "client"})
    for id, value in providers.items():
        _provider(id, value, reading, draft, env)
    draft.sections = {
        "ports": {top.get("port", 3456): {"mode": "tagged"}},
        "modes": {"tagged": {"strategy": "only", "upstreams": [_MAIN], "tags": True}},
        **draft.sections,
    }
    usage = reading.children(children["usage"]) if "usage" in children else {}
    costs = reading.children(usage["costs"]) if "costs" in usage else {}
    said = reading.keys({key: value for key, value in usage.items() if key != "costs"}, {"logFile": scalar(plain)})
    if "logFile" in said:
        draft.sections["logs"] = {"usage": said["logFile"]}
    prices = {}
    for model, value in costs.items():
        row = reading.keys(reading.children(value), _COSTS)
        prices[model] = {_PRICES[name]: amount for name, amount in row.items()}
    if prices:
        draft.sections["prices"] = prices


def _provider(id: str, value: Value, reading: ForeignSections, draft: Draft, env: Mapping[str, str]) -> None:
    children = dict(reading.children(value))
    key = children.pop("apiKey", None)
    got = reading.keys(children, _PROVIDER)
    upstream = draft.upstream(id)
    if got.get("passthrough") or (id == _MAIN and key is None):
        upstream |= {"provider": _MAIN, "auth": "client"}
    elif "baseUrl" in got:
        upstream |= _place(id, got["baseUrl"], "authFile" in children)
    elif id in catalog.load() and id != catalog.CUSTOM:
        upstream["provider"] = id
    elif "baseUrl" not in children:
        reading.mistakes.add(value.place, f"{value.path}: baseUrl is needed")
        return
    if "authFile" in got:
        upstream["auth_file"] = got["authFile"]
    elif key is not None:
        _key(id, key, upstream, reading, draft, env)
    if got.get("models"):
        upstream["models"] = list(dict.fromkeys(got["models"]))


def _place(id: str, address: str, login: bool) -> dict[str, Any]:
    """Provider, dialect and base URL of an address that is asked."""
    address = address.rstrip("/")
    end = next((end for end in _ENDS if address.endswith(end)), "")
    dialect = _ENDS.get(end, "openai-chat")
    base = address.removesuffix(end).removesuffix("/v1")
    provider = whose(base, dialect)
    if provider is not None:
        spoken = catalog.provider(provider).dialect
        return {"provider": provider} if spoken == dialect else {"provider": provider, "dialect": dialect}
    if login:
        return {"provider": "codex", "base_url": base}
    return {"provider": "custom", "dialect": dialect, "base_url": base, "auth_style": "bearer"}


def _key(
    id: str, key: Value, upstream: dict[str, Any], reading: ForeignSections, draft: Draft, env: Mapping[str, str]
) -> None:
    """A variable in place of the key: the provider's own, where there is one."""
    try:
        text = text_of(key).strip()
    except Wrong as wrong:
        reading.wrong(key, wrong)
        return
    row = catalog.load().get(upstream.get("provider", ""))
    name = row.key_variable if row is not None and row.key_variable else variable_for(id)
    known = None if not text or is_example(text) else text
    upstream["api_key"] = draft.reference(name, known or env.get(name) or None)
