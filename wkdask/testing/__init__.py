"""For those who test what handles arrays: strategies that draw them, and the conformance suite that every format passes.

Needs Hypothesis and pytest, which nothing else of the package does. How to write a format, and what the suite asks of it, is in
``docs/formats.md``.
"""

from __future__ import annotations

from wkdask.testing.conformance import FormatConformance
from wkdask.testing.model import ArrayModel, temporary_place

__all__ = ["ArrayModel", "FormatConformance", "temporary_place"]
