"""HTTPS for customers' own domains on nginx: verify, approve, obtain, publish, reload, confirm."""

__version__ = "0.1.0"
