"""How near an adapter comes to the change that it stands for, module by module and in all."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from studio.exports.report import Section, Table

WORST = 10


@dataclass(frozen=True)
class Fit:
    """One module: Frobenius norms of the change that was wanted, and of what is missing from it."""

    module: str
    rank: int
    change: float
    missing: float

    @property
    def error(self) -> float:
        """What is missing, as a share of the change."""
        return self.missing / self.change if self.change else 0.0


def error(fits: Iterable[Fit]) -> float:
    """What is missing from all changes together, as a share of them."""
    fits = list(fits)
    change = math.hypot(*(fit.change for fit in fits))
    return math.hypot(*(fit.missing for fit in fits)) / change if change else 0.0


def sections(fits: Sequence[Fit]) -> tuple[Section, ...]:
    """The fits as tables: by kind of module, and the worst ones."""
    kinds: dict[str, list[Fit]] = {}
    for fit in fits:
        kinds.setdefault(fit.module.rpartition(".")[2], []).append(fit)
    by_kind = Table(
        ("modules", "count", "error", "worst", "energy kept"),
        tuple(
            (kind, str(len(each)), percent(error(each)), percent(max(fit.error for fit in each)), energy(error(each)))
            for kind, each in kinds.items()
        ),
        chart=("error",),
    )
    worst = sorted(fits, key=lambda fit: -fit.error)[:WORST]
    rows = tuple((fit.module, str(fit.rank), percent(fit.error), energy(fit.error)) for fit in worst)
    return (
        Section("Error by kind of module", "Error: the length of what is missing over that of the change.",
                table=by_kind),
        Section("Modules with the largest error", table=Table(("module", "rank", "error", "energy kept"), rows)),
    )  # fmt: skip


def percent(share: float) -> str:
    """0.1234 as 12.3 %."""
    return f"{100 * share:.3g} %"


def energy(error: float) -> str:
    """How much of the sum of squares is kept with that error."""
    return percent(1 - error**2)
