"""The samples of a run: one list for each workload, measure, variant and export mode, in the order of the rounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.summary import Summary, over, ratio, summarise

Key = tuple[str, str, str, str]


@dataclass
class Results:
    """What was measured so far.

    :param samples: by workload, measure, variant, export mode ("" where a variant exports nothing)
    """

    samples: dict[Key, list[float]] = field(default_factory=dict)

    def add(self, workload: str, variant: str, export: str, measures: Mapping[str, float]) -> None:
        """Append the measures of one round."""
        for measure, value in measures.items():
            self.samples.setdefault((workload, measure, variant, export), []).append(value)

    def values(self, workload: str, measure: str, variant: str, export: str) -> list[float]:
        """The samples of one series; a variant without export modes has the same for all of them."""
        found = self.samples.get((workload, measure, variant, export))
        return found or self.samples.get((workload, measure, variant, ""), [])

    def plain(self, workload: str, measure: str, variant: str, export: str) -> Summary | None:
        """The series itself."""
        return summarise(self.values(workload, measure, variant, export))

    def over(self, workload: str, measure: str, variant: str, export: str, base: str = "bare") -> Summary | None:
        """What the variant adds over ``base``."""
        return summarise(self._over(workload, measure, variant, export, base))

    def over_ratio(self, workload: str, measure: str, variant: str, export: str, to: str = "stock") -> Summary | None:
        """What the variant adds over bare, relative to what ``to`` adds."""
        mine = self._over(workload, measure, variant, export, "bare")
        return summarise(ratio(mine, self._over(workload, measure, to, export, "bare")))

    def ratio(self, workload: str, measure: str, variant: str, export: str, to: str) -> Summary | None:
        """The variant relative to another one."""
        mine = self.values(workload, measure, variant, export)
        return summarise(ratio(mine, self.values(workload, measure, to, export)))

    def _over(self, workload: str, measure: str, variant: str, export: str, base: str) -> list[float]:
        return over(self.values(workload, measure, variant, export), self.values(workload, measure, base, export))

    def series(self, measure: str) -> list[tuple[str, str, str]]:
        """Workload, variant and export mode of everything that has this measure, in the order of measuring."""
        return [(workload, variant, export) for workload, what, variant, export in self.samples if what == measure]

    def document(self) -> list[dict[str, Any]]:
        """Everything, for the JSON file."""
        return [
            {"workload": workload, "measure": measure, "variant": variant, "export": export, "values": values}
            for (workload, measure, variant, export), values in self.samples.items()
        ]
