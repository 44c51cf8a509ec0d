"""What curl and work have to bear out: pure functions of their rows."""

from virtualdepth_lab.reproduce.result import Claim, Record
from virtualdepth_lab.reproduce.rows import grouped, where

PUBLISHED: list[Record] = [
    {"depth": "N > 2", "says": "no regulariser: not the gradient of any function near W = 0"},
    {"depth": 2, "says": "constant gradient, one output: curl 0"},
]
ZERO = 1e-12


def summary(measured: list[Record]) -> list[Record]:
    """Return the range over seeds, at the depths of explicit networks."""
    shown = [row for row in measured if row["depth"] in (1, 2, 3, 4)]
    lines = []
    for (part, depth, norm), rows in grouped(shown, "part", "depth", "norm").items():
        curls = [row["curl"] for row in rows]
        line: Record = {"part": part, "depth": depth} | ({"norm": norm} if norm else {})
        line |= {"curl_from": min(curls), "curl_to": max(curls)}
        if "work" in rows[0]:
            line["most_work"] = max(abs(row["work"]) for row in rows)
        lines.append(line)
    return lines


def claims(measured: list[Record]) -> list[Claim]:
    """Judge the rows."""
    constant, near, curved, outputs = (rows for rows in grouped(measured, "part").values())
    near = where(near, norm=1e-4)
    closed = [abs(row["curl"] - row["closed_form"]) for row in constant]
    tends = [abs(row["curl"] - row["closed_form"]) for row in near if row["depth"] in (3, 4)]
    return [
        Claim(
            claim="one output, constant gradient, N = 2: curl 0, and no work around a closed curve",
            held=max(_sizes(constant, "curl", 2)) < ZERO
            and max(_sizes(constant, "work", 2)) < ZERO,
            evidence=f"curl up to {max(_sizes(constant, 'curl', 2)):.1e}, work up to "
            f"{max(_sizes(constant, 'work', 2)):.1e}",
        ),
        Claim(
            claim="one output, constant gradient, N = 3, 4: neither is 0, so no regulariser gives "
            "the rule (published)",
            held=min(_sizes(constant, "curl", 3, 4)) > 1e-2
            and min(_sizes(constant, "work", 3, 4)) > 1e-3,
            evidence=f"curl from {min(_sizes(constant, 'curl', 3, 4)):.2g}, work from "
            f"{min(_sizes(constant, 'work', 3, 4)):.2g}",
        ),
        Claim(
            claim="the curl is (N - 1)(N - 2)/N times a factor of the angle, at every real depth",
            held=max(closed) < 1e-10,
            evidence=f"closed form met to {max(closed):.1e}",
        ),
        Claim(
            claim="squared error near W = 0, N = 3, 4: the curl tends to that of the gradient at 0 "
            "(published: for every loss whose gradient at 0 is not 0)",
            held=max(tends) < 1e-2 and min(_sizes(near, "curl", 3, 4)) > 1e-2,
            evidence=f"difference up to {max(tends):.1e} at ||W|| = 1e-4, curl from "
            f"{min(_sizes(near, 'curl', 3, 4)):.2g}",
        ),
        Claim(
            claim="N = 2 gives no gradient field in general: the curl is not 0 for a curved loss, "
            "nor for three outputs; N = 1 always gives one",
            held=min(_sizes(curved, "curl", 2) + _sizes(outputs, "curl", 2)) > 1e-2
            and max(_sizes(measured, "curl", 1)) < ZERO,
            evidence=f"N = 2 from {min(_sizes(curved, 'curl', 2)):.2g} and "
            f"{min(_sizes(outputs, 'curl', 2)):.2g}; N = 1 up to "
            f"{max(_sizes(measured, 'curl', 1)):.1e}",
        ),
    ]


def _sizes(rows: list[Record], name: str, *depths: float) -> list[float]:
    return [abs(row[name]) for row in rows if row["depth"] in depths]
