"""Whole-system tests: the installed ``twistd`` as a child process, real sockets, the official SDK."""
