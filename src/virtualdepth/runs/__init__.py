"""What every command leaves, and how it answers (level 2)."""

from virtualdepth.runs._errors import UnusableError

__all__ = ["UnusableError"]
