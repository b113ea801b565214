"""Parameters of every type."""

from astra_dagster.tasks.parameters import Parameters


class Sample(Parameters):
    order: int = 3
    width: float = 1.0
    name: str = "a"
    flag: bool = False
    limit: float | None = None
    regions: tuple[float, ...] = (1.0, 2.0)
