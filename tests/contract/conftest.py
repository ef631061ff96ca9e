"""The misbehaving CA, for what an engine does with its answers."""

from tests.faults.fake_acme import acme_dir, server

__all__ = ["acme_dir", "server"]
