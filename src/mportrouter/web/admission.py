"""
Admission: who may ask at all.

A router on loopback is still reachable from every web page the user opens: by a cross-site request, or by a name that
an attacker re-binds to 127.0.0.1. So the ``Host`` must be one of ours and a web origin must be ours, before anything
else is looked at.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from urllib.parse import urlsplit

from ..config_words import is_loopback
from ..errors import Kind, RouterError
from ..settings import FrontSettings, Secret

NOTHING: frozenset[bytes] = frozenset()
_MEMORY = 256  # distinct Host values that are remembered as good


class Admission:
    """
    :param front: the accepted names and origins beside the loopback ones.
    :param host: the address the ports are bound to; its own name is accepted too.
    """

    def __init__(self, front: FrontSettings, host: str) -> None:
        self._hosts = {name.lower() for name in (*front.hosts, host)}
        self._origins = {origin.lower().rstrip("/") for origin in front.origins}
        self._good: set[bytes] = set()

    def check(self, headers: Mapping[bytes, bytes], token: Secret | None) -> frozenset[bytes]:
        """
        Let the request pass, or say why not.

        :param headers: its fields, names lower case.
        :param token: the gateway token its port wants, or ``None``.
        :returns: the fields that carried the gateway token: they end here and go to no provider.
        :raises RouterError: ``FORBIDDEN`` or ``UNAUTHENTICATED``.
        """
        host = headers.get(b"host")
        if host is not None and host not in self._good:
            self._check_host(host)
        origin = headers.get(b"origin")
        if origin is not None:
            self._check_origin(origin)
        elif headers.get(b"sec-fetch-site") == b"cross-site":
            raise RouterError(Kind.FORBIDDEN, "a web page of another site may not use this router")
        return NOTHING if token is None else self._check_token(headers, token)

    def _check_host(self, host: bytes) -> None:
        try:
            name = urlsplit("//" + host.decode("ascii")).hostname or ""
        except ValueError:
            name = ""
        if not (is_loopback(name) or name in self._hosts):
            shown = host.decode("ascii", "replace")[:100]
            raise RouterError(
                Kind.FORBIDDEN,
                f"the Host {shown!r} is not one of this router's names; "
                "use 127.0.0.1 or localhost, or add the name under front: hosts: in the configuration",
            )
        if len(self._good) < _MEMORY:
            self._good.add(host)

    def _check_origin(self, origin: bytes) -> None:
        text = origin.decode("ascii", "replace").lower()
        try:
            name = urlsplit(text).hostname or ""
        except ValueError:
            name = ""
        if not (is_loopback(name) or text.rstrip("/") in self._origins):
            raise RouterError(
                Kind.FORBIDDEN,
                f"requests of the web origin {text[:100]!r} are refused; "
                "add it under front: origins: in the configuration if it is yours",
            )

    def _check_token(self, headers: Mapping[bytes, bytes], token: Secret) -> frozenset[bytes]:
        wanted = token.value.encode("utf-8")
        carriers = []
        # Every one is compared, whatever the first comparison said: the time tells nothing.
        for name in (b"x-mportrouter-token", b"x-api-key", b"x-goog-api-key", b"api-key", b"authorization"):
            value = headers.get(name, b"")
            if name == b"authorization":
                scheme, _, credential = value.partition(b" ")
                value = credential.strip() if scheme.lower() == b"bearer" else b""
            if hmac.compare_digest(value, wanted):
                carriers.append(name)
        if not carriers:
            raise RouterError(
                Kind.UNAUTHENTICATED,
                "this router wants its gateway token; "
                "send it as x-mportrouter-token, x-api-key, x-goog-api-key or Authorization: Bearer",
            )
        return frozenset(carriers)
