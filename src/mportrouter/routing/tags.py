"""
Whom a sub-agent's tag names.

What a tag is and how it is taken out of a request: :mod:`mportrouter.subagent`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import Kind, RouterError
from ..subagent import NAME, Tag, find
from .accounts import listed, shown
from .plans import UpstreamView

__all__ = ["Tag", "find", "named", "told"]


def told(tag: tuple[str, str]) -> str:
    """A tag on one line of limited length, for decisions and logs."""
    text = ",".join(tag)
    return "".join(letter if letter.isprintable() else "?" for letter in text[:100])


def named(tag: tuple[str, str], views: Sequence[UpstreamView]) -> list[UpstreamView]:
    """
    The upstreams that a tag names and that have its model, in the order given.

    An upstream's id comes before a provider's name, which stands for all accounts there; case matters only where it
    decides between two.

    :raises RouterError: ``BAD_REQUEST``: nobody is called so, or nobody who is has the model; the message tells who and
        what is known.
    """
    provider, model = tag
    folded = provider.casefold()
    found = (
        [view for view in views if view.id == provider]
        or [view for view in views if view.provider == provider]
        or [view for view in views if view.id.casefold() == folded]
        or [view for view in views if view.provider.casefold() == folded]
    )
    if not found:
        usable = [view for view in views if view.enabled]
        known = listed([view.provider for view in usable] + [view.id for view in usable])
        raise RouterError(
            Kind.BAD_REQUEST,
            f"The sub-agent tag names the provider {shown(provider)}, which is unknown here. Known providers: {known}.",
        )
    if not model:
        raise RouterError(
            Kind.BAD_REQUEST,
            f"The sub-agent tag names no model: <{NAME}>provider,model</{NAME}> is wanted, "
            f"and it has {shown(provider)}.",
        )
    having = [view for view in found if view.offers]
    if not having:
        known = listed([name for view in found for name in view.models])
        raise RouterError(
            Kind.BAD_REQUEST,
            f"The sub-agent tag names the model {shown(model)}, which {provider} does not have. Known models: {known}.",
        )
    return having
