"""Types of measured values with the range that pydantic checks when it reads a record.

The ends of the ranges are far from any real value, and far from what overflows when values are divided.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Positive = Annotated[float, Field(ge=1e-30, le=1e30)]
NonNegative = Annotated[float, Field(ge=0, le=1e30)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=10**30)]
Size = Annotated[int, Field(ge=1, le=10**30)]
