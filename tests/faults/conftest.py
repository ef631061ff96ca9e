"""The end-to-end sandbox, for faults of the whole product."""

from tests.e2e.conftest import real_parts, sandbox

__all__ = ["real_parts", "sandbox"]
