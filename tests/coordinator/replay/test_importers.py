"""Jobs and links from files; a fault names the line and the column."""

import gzip
from pathlib import Path

import pytest

from coordinator.replay.importers import philly_jobs, wan_pairs
from sterna.errors import ConfigError

JOBS = "job_id,submit_s,duration_s,num_gpus\n10,5,3600,1\n9,5,60,2\n7,0,60,1\n"
LINKS = "site_set,src_site,dst_site,gbps\neu,A,B,2\nus,A,B,9\neu,B,A,1\n"


@pytest.mark.parametrize("name", ["jobs.csv", "jobs.csv.gz"])
def test_jobs_are_in_order_of_submission_then_of_their_numbers(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(JOBS.encode()) if name.endswith(".gz") else JOBS.encode())
    assert [(job.job_id, job.gpus) for job in philly_jobs(path)] == [("7", 1), ("9", 2), ("10", 1)]


def test_a_place_of_the_matrix_may_stand_for_several_sites(tmp_path: Path) -> None:
    (tmp_path / "w.csv").write_text(LINKS)
    found = wan_pairs(tmp_path / "w.csv", "eu", {"x": "A", "y": "A", "z": "B"})
    assert found == {("x", "z"): 2e9, ("y", "z"): 2e9, ("z", "x"): 1e9, ("z", "y"): 1e9}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("job_id,submit_s,duration_s\n1,0,60\n", r"j\.csv: line 2: no column num_gpus"),
        (
            "job_id,submit_s,duration_s,num_gpus\n1,0,60,1\n2,soon,60,1\n",
            "line 3: submit_s: could not convert",
        ),
        ("job_id,submit_s,duration_s,num_gpus\n1,0\n", "line 2: duration_s: could not convert"),
        ("job_id,submit_s,duration_s,num_gpus\nx,0,60,1\n", "line 2: job_id: invalid literal"),
    ],
)
def test_a_row_that_is_no_job_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "j.csv").write_text(text)
    with pytest.raises(ConfigError, match=says):
        philly_jobs(tmp_path / "j.csv")


def test_a_file_that_is_not_there_or_no_gzip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "j.csv.gz").write_text(JOBS)
    for name in ("j.csv.gz", "none.csv"):
        with pytest.raises(ConfigError, match=name):
            philly_jobs(tmp_path / name)
