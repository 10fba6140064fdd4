"""Tells ``twistd`` of ``mportrouter``. Strings only: nothing of the package is imported until it is chosen."""

from twisted.application.reactors import Reactor
from twisted.application.service import ServiceMaker

mportrouter = ServiceMaker(
    "mportrouter",
    "mportrouter.tap",
    "A local router between LLM clients and LLM providers.",
    "mportrouter",
)

reactor = Reactor(
    "mportrouter",
    "mportrouter.reactor",
    "epoll with a shorter way to a readable socket; what twistd mportrouter chooses on Linux.",
)
