"""Which outputs a clean-up is asked for, and the table of what it found."""

from dataclasses import replace
from pathlib import Path

import pytest

from astra_dagster.cleanup.cleaning import Found
from astra_dagster.cleanup.removal import Candidate, remove
from astra_dagster.errors import AstraError
from astra_dagster.orchestration.clean import CleanConfig, size_text, table

NAME = "ap_visit_snr"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"kinds": ["temporaries"]}, "did you mean temporary"),
        ({"tasks": ["ap_visit_sn"]}, "did you mean ap_visit_snr"),
        ({"tasks": ["../outputs"]}, "no task '../outputs'"),
        ({"digests": ["order=5"]}, "expected 12 hexadecimal digits"),
        ({"older_days": -1}, "expected 0 days or more"),
        ({"older_days": float("nan")}, "expected 0 days or more"),
    ],
)
def test_selections_that_make_no_sense(config: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(AstraError, match=message):
        CleanConfig(**config).selection(tmp_path)


def test_the_table() -> None:
    made = [
        Candidate("code", NAME, "0123456789ab", "a", (1, 1500, 1)),
        Candidate("code", NAME, "0123456789ab", "b", (2, 1500, 1)),
        Candidate("lost", NAME, "0123456789ab", "c", kept="a reason"),
    ]
    made.append(replace(made[2], kind="unknown-task", family="x"))
    assert table(Found(made, {(NAME, "0123456789ab"): 17})) == [
        "kind          task          digest        recorded  files    size",
        "code          ap_visit_snr  0123456789ab        17      2  3.0 kB  to remove",
        "lost          ap_visit_snr  0123456789ab        17      1     0 B  stays: a reason",
        "unknown-task  x             0123456789ab         ?      1     0 B  stays: a reason",
        "2 to remove, 3.0 kB",
    ]
    assert [size_text(10**n) for n in (2, 3, 6, 9, 12, 15)] == [
        *("100 B", "1.0 kB", "1.0 MB", "1.0 GB", "1.0 TB", "1000.0 TB")
    ]
    assert remove(Path("/nowhere"), []).removed == []
