"""
A local router between LLM clients and LLM providers, built on Twisted.

The house is described in ``docs/architecture.rst``; start reading at :mod:`mportrouter.tap`.
"""

__version__ = "0.1.0"
