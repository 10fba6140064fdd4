"""Unit tests: no sockets, no waiting; found by ``trial mportrouter``."""
