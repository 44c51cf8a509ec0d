"""Find a claim by its words."""

from virtualdepth_lab.reproduce.result import Claim


def held(claims: list[Claim], words: str) -> bool:
    """Whether the one claim with these words held."""
    [claim] = [claim for claim in claims if words in claim.claim]
    return claim.held
