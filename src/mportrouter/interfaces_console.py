"""The joint between the running router and whoever commands it; the docstrings are the contract."""

from __future__ import annotations

from typing import Any

from zope.interface import Interface


class IConsole(Interface):
    """
    What commands may ask of the running router; chat, Perspective Broker and HTTP share one implementation.

    Every method returns plain values (dict, list, str, int, float, bool, None), so that PB can carry them, or a
    Deferred of such where it says so; a refusal is a :class:`mportrouter.commands.CommandError`.
    """

    def status(port: int | None) -> dict[str, Any]:
        """The seed's status block, for one port or (``None``) the whole router."""

    def health() -> dict[str, Any]:
        """What ``GET /health`` answers."""

    def check_health() -> Any:
        """Run a check of every upstream now; a Deferred of what :meth:`health` gives then."""

    def stats() -> dict[str, Any]:
        """Totals, shares, costs, savings."""

    def logs(count: int) -> list[str]:
        """The last ``count`` lines of the log."""

    def mode(port: int | None, name: str | None, session: str | None) -> dict[str, Any]:
        """Show (``name`` None) or switch the mode of a port, or of one conversation on it."""

    def switch(port: int | None, name: str) -> dict[str, Any]:
        """
        Pin the mode of a port to one upstream, with no failover, until :meth:`unpin`; also over a restart.

        :param port: ``None``: the dynamic one, else the only one whose mode has that upstream.
        :param name: an upstream's id, or its provider's name where that means one of the mode's.
        """

    def unpin(port: int | None) -> dict[str, Any]:
        """Let the mode of a port (``None``: every mode) choose again."""

    def explain(port: int | None, body: bytes, dialect: str, model: str, session: str) -> dict[str, Any]:
        """
        The plan that a request would get now, and every reason for it; nothing is sent and nothing counts.

        :param port: ``None``: the dynamic one, or the only one.
        :param model: instead of the one in the body (or, for Gemini, in the path); ``""``: that one.
        :param session: the conversation's id, ``""``: as the body tells.
        """

    def ports() -> list[dict[str, Any]]:
        """Each port with its mode, state and counts."""

    def open_port(port: int, mode: str) -> dict[str, Any]: ...

    def close_port(port: int) -> Any:
        """A Deferred; exchanges under way on it finish first."""

    def reload() -> Any:
        """Read the configuration again and swap it whole. A Deferred of what changed."""

    def drain(stop: bool) -> Any:
        """Stop accepting; a Deferred that fires when nothing is under way; then stop the process if asked."""

    def upstreams() -> list[dict[str, Any]]: ...

    def enable_upstream(id: str, enabled: bool) -> dict[str, Any]: ...
