"""What is wrong with the rows of a file, where, and how to mend it. No torch, no tokenizer."""

from studio.datasets.checks.codes import CODES
from studio.datasets.checks.finding import Finding
from studio.datasets.checks.repair import REPAIRS, repair
from studio.datasets.checks.report import Report, keep, stored
from studio.datasets.checks.survey import check, detected, survey

__all__ = ["CODES", "REPAIRS", "Finding", "Report", "check", "detected", "keep", "repair", "stored", "survey"]
