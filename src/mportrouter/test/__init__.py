"""Unit tests: no sockets, no waiting; found by ``trial mportrouter``."""

from hypothesis import HealthCheck, settings

# How fast the machine is decides nothing: neither how long an example takes nor how long one takes to make.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
