"""What is known of the machine that is timed, and the energy it takes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from hsnet_trt.benchmarks.limits import machine_facts as facts
from hsnet_trt.benchmarks.limits.energy import EnergyMeter
from hsnet_trt.benchmarks.limits.machine_facts import Bystanders, machine_facts
from hsnet_trt.benchmarks.speed.report import (
    machine_name,
)

pytestmark = pytest.mark.xdist_group("benchmarks")


def test_energy_is_read_from_the_processor_s_counters(tmp_path):
    for name, joules in (("intel-rapl:0", 5), ("intel-rapl:1", 7), ("intel-rapl:0:0", 99)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(f"{joules * 10**6}\n")
    (tmp_path / "intel-rapl:1" / "max_energy_range_uj").write_text(f"{8 * 10**6}\n")
    with EnergyMeter(tmp_path) as meter:
        (tmp_path / "intel-rapl:0" / "energy_uj").write_text(f"{9 * 10**6}\n")
        (tmp_path / "intel-rapl:1" / "energy_uj").write_text(f"{2 * 10**6}\n")  # began anew
        (tmp_path / "intel-rapl:0:0" / "energy_uj").write_text(f"{500 * 10**6}\n")
    assert meter.source == "RAPL" and meter.joules == pytest.approx(4 + 3)
    with EnergyMeter(tmp_path / "nothing") as nothing:
        pass
    assert nothing.joules is None and nothing.source is None


def test_facts_name_the_machine_and_no_person():
    facts = machine_facts()
    assert facts["cores"] >= 1 and facts["packages"]["torch"]
    assert json.loads(json.dumps(facts)) == facts
    assert str(Path.home()) not in json.dumps(facts)
    assert machine_name({"gpus": [], "cpu": "Intel(R) Xeon(R) CPU @ 2.0GHz", "cores": 2}) == (
        "intel-xeon-2-0ghz-2-cores"
    )
    assert (
        machine_name({"gpus": ["NVIDIA H200 (141 GiB)"], "cpu": "x", "cores": 2}) == "nvidia-h200"
    )
    share = Bystanders().share(0.0)
    assert share is None or 0 <= share <= 1


def test_the_revision_is_of_this_tree_alone(tmp_path, monkeypatch):
    """Not of a repository that holds the environment where the package is installed."""
    commit = ["-c", "user.name=x", "-c", "user.email=x@y", "commit", "--allow-empty", "-qm", "x"]
    for words in (["init", "-q"], commit):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    package = tmp_path / "venv" / "hsnet_trt" / "benchmarks" / "limits"
    package.mkdir(parents=True)
    monkeypatch.setattr(facts, "__file__", str(package / "machine_facts.py"))
    assert facts.revision() is None
    monkeypatch.setattr(facts, "__file__", str(tmp_path / "a" / "b" / "c.py"))
    assert facts.revision()
