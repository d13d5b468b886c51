"""Tests that the clusters of docs/scale.md can be created, with the jobs that the page describes."""

import re
import warnings
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[3] / "docs" / "scale.md"
EXPECTED = {
    "SLURMCluster": ["#SBATCH -p compute", "#SBATCH --cpus-per-task=32", "#SBATCH -t 04:00:00"],
    "PBSCluster": ["#PBS -q workq", "#PBS -l select=1:ncpus=32:mem=32gb", "#PBS -l walltime=04:00:00"],
}


def find_snippet(name: str) -> str:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    [block] = [block for block in blocks if f"= {name}(" in block]
    return block


@pytest.mark.parametrize("name", EXPECTED)
def test_jobs_are_as_documented(name):
    made: dict = {}
    with warnings.catch_warnings():
        # Ignore the warning that the dashboard's port is in use.
        warnings.simplefilter("ignore")
        exec(find_snippet(name), made)
    with made["cluster"] as cluster:
        script = cluster.job_script().splitlines()
    assert set(EXPECTED[name]) <= set(script)
    assert "export PATH=/shared/mercury/bin:$PATH" in script
    [worker] = [line for line in script if "dask_worker" in line]
    assert "--nthreads 32" in worker and "--lifetime 230m" in worker
    # The flag appears only with more than one worker.
    assert "--nworkers" not in worker
