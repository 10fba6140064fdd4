"""``python -m mportrouter …``: the router in the foreground, with the flags of ``twistd -n mportrouter``."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def twistd_arguments(flags: Sequence[str]) -> list[str]:
    """
    The command line of twistd that this one stands for.

    No pid file: a router in the foreground is stopped from its terminal, and two of them may share a folder.
    """
    return ["twistd", "--nodaemon", "--pidfile=", "mportrouter", *flags]


def main() -> None:
    """Run twistd in this process; does not return before the router has stopped."""
    from twisted.scripts.twistd import run

    sys.argv = twistd_arguments(sys.argv[1:])
    run()


if __name__ == "__main__":
    main()
