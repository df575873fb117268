"""The table of the benchmarks on the CPU."""

from benchmarks import cpu


def test_table():
    candidate = cpu.Candidate("plain C", 1, 1, len, ["frame", "frame"], 1, {"mismatches": 0})
    candidate.repeat()
    row = candidate.row()
    assert row["us_per_frame"] > 0 and row["frames_per_second"] > 0
    result = {"machine": {"cpu": "a CPU", "cores": 4}, "frames": 1000,
              "rows": [row | {"us_per_frame": 1234.56, "frames_per_second": 810}]}
    assert "a CPU, 4 cores; 1,000 MARS frames" in cpu.table(result)[2]
    assert cpu.table(result)[-1] == "| plain C | 1 | 1 | 1,234.6 | 810 | 0 |"
