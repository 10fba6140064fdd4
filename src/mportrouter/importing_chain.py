"""claude-proxy's ``config.json``: providers in order, and for how long one that failed is left alone."""

from __future__ import annotations

from collections.abc import Mapping

from . import catalog
from .config_places import Value
from .config_words import Reader, base_url, count, is_loopback, items, plain, port_number, scalar
from .importing_draft import Draft, ForeignSections, Reference, host_of, whose

_TOP: dict[str, Reader] = {"proxy_port": scalar(port_number), "cooldown_minutes": scalar(count)}
_PROVIDER: dict[str, Reader] = {"name": scalar(plain), "base_url": scalar(base_url), "api_key_env": scalar(plain)}


def read_chain(whole: Value, reading: ForeignSections, draft: Draft, env: Mapping[str, str]) -> None:
    """
    :param whole: the file.
    :param draft: what it becomes.
    :param env: the ``.env`` beside it.
    """
    children = reading.children(whole)
    top = reading.keys({key: value for key, value in children.items() if key != "providers"}, _TOP)
    names: list[str] = []
    for entry in items(children["providers"]):
        got = reading.keys(reading.children(entry), _PROVIDER)
        for key in _PROVIDER:
            if isinstance(entry.content, dict) and key not in entry.content:
                reading.mistakes.add(entry.place, f"{entry.path}: {key} is needed")
        if len(got) < len(_PROVIDER):
            continue
        name = got["name"]
        if name in names:
            reading.mistakes.add(entry.place, f"{entry.path}.name: {name!r} is there twice")
            continue
        names.append(name)
        variable = got["api_key_env"]
        _upstream(draft, name, got["base_url"], draft.reference(variable, env.get(variable) or None))
    draft.sections = {
        "ports": {top.get("proxy_port", 8787): {"mode": "fallback", "dynamic": True, "body_limit": "10MiB"}},
        "modes": {
            "fallback": {
                "strategy": "fallback",
                "upstreams": names,
                "move_on": [429, 500, 502, 503, 504],
                "cooldown_minutes": top.get("cooldown_minutes", 30),
            }
        },
        **draft.sections,
    }


def _upstream(draft: Draft, name: str, url: str, key: Reference) -> None:
    upstream = draft.upstream(name)
    provider = whose(url, "anthropic")
    row = catalog.load().get(name)
    if provider is None and row is not None and "anthropic" in row.base_urls and not is_loopback(host_of(url)):
        # The same provider at another of its hosts: what it does is the same.
        provider = name
        upstream |= {"provider": provider, "base_url": url}
        words = f"taken for the provider {name!r} at {host_of(url)}; if it is another one, its provider is custom"
        draft.notes.append(f"upstreams.{name}: {words}")
    elif provider is None:
        upstream |= {"provider": "custom", "base_url": url, "auth_style": "bearer"}
    else:
        upstream |= {"provider": provider}
    upstream["api_key"] = key
