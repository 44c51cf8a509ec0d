"""The theorems on deep linear networks, each cited by number (level 1)."""

from virtualdepth.theory.convergence import ConvergenceCertificate, convergence_certificate
from virtualdepth.theory.curl import rule_curl

__all__ = ["ConvergenceCertificate", "convergence_certificate", "rule_curl"]
