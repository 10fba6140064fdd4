"""The shipped presets as a user starts them, with stand-ins in the places of their providers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import yaml

from .harness import RouterProcess

FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "etc", "presets")


def preset(
    name: str,
    base_urls: Mapping[str, str],
    environment: Mapping[str, str | None],
    change: Mapping[str, Any] | None = None,
    start: bool = True,
) -> RouterProcess:
    """
    A router with a preset; its port is called ``main``.

    :param base_urls: of its upstreams, by id.
    :param environment: its keys.
    :param change: members of upstreams to change, by id.
    """
    with open(os.path.join(FOLDER, f"{name}.yaml"), encoding="utf-8") as file:
        config = yaml.safe_load(file)
    for id, url in base_urls.items():
        config["upstreams"][id]["base_url"] = url
    for id, members in (change or {}).items():
        config["upstreams"][id].update(members)
    (settings,) = config["ports"].values()
    router = RouterProcess(None, {"ports": {"main": settings}}, environment=environment, start=False)
    router.config = {**config, "ports": router.config["ports"], "health": {"every": "1h"}}
    router.write_config()
    if start:
        router.start()
    return router
