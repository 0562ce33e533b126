"""`zoo.check`: does this model get its photographs, and its labels, as it was trained to?

Read `checking.py` first. The model is its own judge: where a corrected input makes it right about pictures that
it gets wrong as given, and hardly ever the other way round, the input was wrong.
"""

from zoo.mismatch.checking import check
from zoo.mismatch.report import CheckReport, Finding, Trial

__all__ = ["CheckReport", "Finding", "Trial", "check"]
