"""What must hold between the settings of a configuration, and what a person had better know about one that holds."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from .config_accounts import needed
from .config_places import nearest
from .config_schema import Reading
from .config_words import is_loopback
from .settings import ModeSettings, PortSettings, Settings, UpstreamSettings

_TAKES = {
    "only": (1, 1, "exactly one"),
    "interactive": (2, 2, "exactly two"),
    **dict.fromkeys(("fallback", "table", "exhaust", "round-robin"), (1, None, "at least one")),
}


def check(settings: Settings, configured: Mapping[int, PortSettings], reading: Reading) -> None:
    """
    Find every mistake between settings.

    :param settings: the draft, with the ports that will be opened.
    :param configured: the ports that the file has beside these.
    :param reading: where things stand, and where the mistakes go.
    """
    mistakes = reading.mistakes
    for number, port in {**configured, **settings.ports}.items():
        _check_port(number, port, settings, reading)
    for mode in settings.modes.values():
        _check_mode(mode, settings, reading)
    for upstream in settings.upstreams.values():
        _check_upstream(upstream, settings, reading)
    _check_doors(settings, reading)
    if settings.breaker.open_at_most < settings.breaker.open_for:
        mistakes.add(reading.place("breaker.open_at_most"), "breaker.open_at_most: expected not less than open_for")
    if settings.demo is None:
        _check_keys(settings, reading)


def _at(path: str, settings: Settings, reading: Reading) -> str:
    """Where a setting is from: the flag or variable, or its place in the file."""
    return settings.origins.get(path) or reading.place(path)


def _check_port(number: int, port: PortSettings, settings: Settings, reading: Reading) -> None:
    # A mode that was given but could not be read has its own mistake already.
    if port.mode not in settings.modes and f"modes.{port.mode}" not in reading.given:
        path = f"ports.{number}.mode"
        near = nearest(port.mode, settings.modes)
        reading.mistakes.add(_at(path, settings, reading), f"{path}: there is no mode {port.mode!r}{near}")


def _check_mode(mode: ModeSettings, settings: Settings, reading: Reading) -> None:
    path = f"modes.{mode.name}.upstreams"
    place = reading.place(path)
    rows = reading.rows.get(f"modes.{mode.name}.table", ())
    for row, said in zip(mode.table, rows, strict=False):
        if row.upstream not in settings.upstreams and f"upstreams.{row.upstream}" not in reading.given:
            words = f"{said.path}: there is no upstream {row.upstream!r}{nearest(row.upstream, settings.upstreams)}"
            reading.mistakes.add(said.place, words)
    named = {row.upstream for row in mode.table} if rows else ()
    for index, id in enumerate(mode.upstreams):
        if id in named:
            continue
        # As for modes above.
        if id not in settings.upstreams and f"upstreams.{id}" not in reading.given:
            reading.mistakes.add(place, f"{path}: there is no upstream {id!r}{nearest(id, settings.upstreams)}")
        if id in mode.upstreams[:index]:
            reading.mistakes.add(place, f"{path}: {id!r} is named twice")
    owners = {
        settings.upstreams[id].provider
        for id in mode.upstreams
        if id in settings.upstreams and settings.upstreams[id].auth == "client"
    }
    if len(owners) > 1:
        names = " and ".join(sorted(owners))
        words = f"{path}: a client's own login belongs to one provider, not to {names} (auth: client)"
        reading.mistakes.add(place, words)
    least, most, words = _TAKES[mode.strategy]
    if len(mode.upstreams) < least or (most is not None and len(mode.upstreams) > most):
        reading.mistakes.add(
            place, f"{path}: the strategy {mode.strategy!r} takes {words} upstream, not {len(mode.upstreams)}"
        )
    elif all(id in settings.upstreams and not settings.upstreams[id].enabled for id in mode.upstreams):
        reading.mistakes.add(place, f"{path}: every upstream of it is disabled")
    analyzer = mode.interactive.analyzer_upstream
    if mode.strategy == "interactive" and mode.interactive.analyzer != "local" and analyzer not in settings.upstreams:
        path = f"modes.{mode.name}.analyzer_upstream"
        near = nearest(analyzer, settings.upstreams)
        reading.mistakes.add(reading.place(path), f"{path}: there is no upstream {analyzer!r}{near}")


def _check_upstream(upstream: UpstreamSettings, settings: Settings, reading: Reading) -> None:
    path = f"upstreams.{upstream.id}"
    base = f"{path}.base_url"
    if not upstream.base_url:
        if base not in reading.given:
            reading.mistakes.add(reading.place(path), f"{base}: is needed; the provider 'custom' has none of its own")
        return
    url = urlsplit(upstream.base_url)
    if settings.demo is None and is_loopback(url.hostname or "") and url.port in settings.ports:
        # The variable that points a client at the router is often still set where the router is started.
        reading.mistakes.add(
            _at(base, settings, reading),
            f"{base}: {upstream.base_url} is a port of this router itself; unset the variable, or name the provider",
        )
    if upstream.pins.mode != "off" and len(set(upstream.pins.sha256)) < 2:
        reading.mistakes.add(
            reading.place(f"{path}.pins"),
            f"{path}.pins: expected at least two different pins, one of them a backup (mportrouter pins capture HOST)",
        )
    _check_auth(upstream, path, settings, reading)


def _check_auth(upstream: UpstreamSettings, path: str, settings: Settings, reading: Reading) -> None:
    """Where an upstream's credential comes from, and where it goes."""
    mistakes, key = reading.mistakes, f"{path}.api_key"
    keyed = key in reading.given and upstream.api_key is not None
    if upstream.auth == "client" and keyed:
        mistakes.add(reading.place(key), f"{key}: 'auth: client' sends the client's own key; take one out")
    if upstream.auth_style == "none" and keyed:
        mistakes.add(reading.place(key), f"{key}: 'auth_style: none' sends no key; take one out")
    if upstream.auth != "codex":
        for name in ("auth_file", "token_url"):
            if f"{path}.{name}" in reading.given and getattr(upstream, name) is not None:
                place = reading.place(f"{path}.{name}")
                mistakes.add(place, f"{path}.{name}: only upstreams with 'auth: codex' have it")
        return
    place = reading.place(f"{path}.auth")
    if keyed:
        mistakes.add(reading.place(key), f"{key}: 'auth: codex' sends the login of the Codex program; take one out")
    if upstream.dialect != "openai-responses":
        mistakes.add(place, f"{path}.auth: codex goes with 'dialect: openai-responses' only")
    if not upstream.auth_file or not upstream.token_url:
        mistakes.add(place, f"{path}.auth: codex needs auth_file and token_url (the provider 'codex' has them)")
    for name, owner in (("base_url", "chatgpt.com"), ("token_url", "openai.com")):
        host = urlsplit(getattr(upstream, name) or "").hostname or owner
        if host != owner and not host.endswith(f".{owner}") and not is_loopback(host):
            words = f"{path}.{name}: a ChatGPT login goes to {owner} (or loopback) only, not to {host}"
            mistakes.add(_at(f"{path}.{name}", settings, reading), words)
    if not is_loopback(settings.host):
        words = f"{path}.auth: a ChatGPT login is its own user's; with it the router listens on loopback only"
        mistakes.add(_at("host", settings, reading) or place, words)


def _check_doors(settings: Settings, reading: Reading) -> None:
    mistakes = reading.mistakes
    bare = sorted(number for number, port in settings.ports.items() if port.token is None)
    if not is_loopback(settings.host) and settings.token is None and bare:
        mistakes.add(
            _at("host", settings, reading),
            f"host: {settings.host} can be reached from other machines; set token: (or one for each of the ports "
            f"{', '.join(map(str, bare))})",
        )
    admin = settings.admin
    if admin.tcp_port is not None:
        place = reading.place("admin.tcp_port")
        if admin.password is None and "admin.password" not in reading.given:
            mistakes.add(place, "admin.tcp_port: a password is needed with it (admin.password)")
        if admin.tcp_port in settings.ports:
            mistakes.add(place, f"admin.tcp_port: {admin.tcp_port} is a port of the router already")


def _check_keys(settings: Settings, reading: Reading) -> None:
    """Every upstream that an opened port may ask needs its key."""
    wanted: dict[str, list[str]] = {}
    for number, port in sorted(settings.ports.items()):
        mode = settings.modes.get(port.mode)
        for id in needed(mode, settings) if mode else ():
            path = f"upstreams.{id}.api_key"
            if path not in reading.given or path in settings.origins:  # else it is there, and refused
                wanted.setdefault(id, []).append(f"{port.mode} (port {number})")
    for id, modes in wanted.items():
        variable = settings.upstreams[id].key_variable
        how = f"set {variable} in the environment or in .env" if variable else f"set upstreams.{id}.api_key"
        plural = "modes" if len(modes) > 1 else "mode"
        reading.mistakes.add(
            "", f"no key for the upstream {id!r}, needed by the {plural} {', '.join(modes)}: {how}, or try with --demo"
        )


def warnings(settings: Settings) -> list[str]:
    """What holds but should be known before the start, one sentence each."""
    told = []
    if not is_loopback(settings.host):
        told.append(f"host: {settings.host} can be reached from other machines, and the router speaks plain HTTP")
    modes = [settings.modes[port.mode] for port in settings.ports.values()]
    # What a tag may name is every upstream.
    used = {id for mode in modes for id in (settings.upstreams if mode.tags else mode.upstreams)}
    for id, upstream in settings.upstreams.items():
        origin = settings.origins.get(f"upstreams.{id}.api_key", "")
        if upstream.api_key is not None and not origin.startswith(("environment ", ".env ")):
            told.append(f"upstreams.{id}.api_key: the key is written in the file ({origin}); ${{NAME}} keeps it out")
        if id in used and upstream.auth == "codex":
            told.append(
                f"upstreams.{id}: asks with the ChatGPT plan of whoever is logged in, in a way that its vendor does "
                "not document; whether the plan's terms allow it is for you to know"
            )
        if id in used and upstream.tls.minimum == "1.2":
            told.append(f"upstreams.{id}.tls.minimum: TLS 1.2 is allowed; 1.3 is the default for a reason")
    told += settings.notices
    if settings.demo is not None:
        return told
    said = {path.split(".")[1] for path in settings.origins if path.startswith("modes.")}
    for number, port in sorted(settings.ports.items()):
        if not port.dynamic:
            continue
        for name, mode in settings.modes.items():
            if f"modes.{port.mode}.strategy" in settings.origins and name not in said:
                # Who has modes of their own need not hear of every one that is built in.
                continue
            without = needed(mode, settings)
            if without:
                told.append(f"port {number} cannot be switched to {mode.name}: no key for {', '.join(without)}")
    return told
