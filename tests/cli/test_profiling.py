"""Doctor, profile, compare and the measured phases, with simulated counters and without any."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.helpers import chains_in
from tests.conftest import Result

Cli = Callable[..., Result]

WATTS = {"intel-rapl:0": ("package-0", 40.0), "intel-rapl:1": ("package-1", 10.0), "intel-rapl:0:0": ("dram", 5.0)}
RANGE = 7_000_000  # microjoules, so that the first package wraps every 175 ms
COUNTING = """
import os, sys, time
places = [(place, float(watts)) for place, watts in (one.split("=") for one in sys.argv[2:])]
began = time.perf_counter()
while os.getppid() == int(sys.argv[1]):
    for place, watts in places:
        with open(place + "/next", "w") as file:
            file.write(str(int(watts * (time.perf_counter() - began) * 1e6) % 7000000))
        os.replace(place + "/next", place + "/energy_uj")
    time.sleep(0.001)
"""


@pytest.fixture
def counters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A powercap folder whose counters run: two packages of 50 W together, memory of 5 W."""
    root = tmp_path / "powercap"
    for place, (name, _) in WATTS.items():
        (root / place).mkdir(parents=True)
        (root / place / "name").write_text(name)
        (root / place / "max_energy_range_uj").write_text(str(RANGE))
        (root / place / "energy_uj").write_text("0")
    arguments = [f"{root / place}={watts}" for place, (_, watts) in WATTS.items()]
    counting = subprocess.Popen([sys.executable, "-c", COUNTING, str(os.getpid()), *arguments])
    monkeypatch.setenv("GNNCOMPRESS_POWERCAP", str(root))
    yield root
    counting.kill()
    counting.wait()


def command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "gnncompress", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, env={**os.environ, **environment}, timeout=120)


def rows_of(file: Path) -> dict[tuple[str, str], tuple[float | None, str]]:
    with file.open(newline="") as lines:
        return {
            (row["phase"], row["metric"]): (float(row["value"]) if row["value"] else None, row["source"])
            for row in csv.DictReader(lines)
            if not row["layer"]
        }


def test_a_run_with_counters(counters: Path, tmp_path: Path) -> None:
    # A process of its own: the one that children are forked from keeps the environment that it began with.
    out = tmp_path / "runs"
    options = ("--epochs", 5, "--finetune-epochs", 3, "--energy-seconds", 0.5, "--country", "FRA", "--batch-size", 0)
    done = command("prune", "-s", 0.9, *options, "-o", out, "--json")
    assert done.returncode == 0, done.stderr
    (run,) = json.loads(done.stdout)["runs"]
    rows = rows_of(out / run["run_id"] / "results.csv")
    # The writer may be late by some milliseconds of each window, and the machine is busy with other tests.
    assert rows["inference", "power"] == (pytest.approx(50, rel=0.2), "rapl")
    assert rows["inference", "power_dram"] == (pytest.approx(5, rel=0.2), "rapl")
    idle = rows["inference", "power_idle"]  # unavailable if other tests kept the machine busy
    assert idle in ((None, "unavailable"), (pytest.approx(50, rel=0.2), "rapl"))
    window, windows, calls = (rows["inference", f"energy_{name}"][0] for name in ("window", "windows", "repetitions"))
    assert window is not None
    assert windows == 3
    assert 0.5 <= window < 3
    assert calls is not None
    energy, source = rows["inference", "energy"]
    assert energy is not None
    assert source == "rapl"
    assert energy * calls == pytest.approx(3 * 50 * window, rel=0.5), "joules a call times calls are those of 50 W"
    assert rows["inference", "energy_spread"][0] >= 0  # type: ignore[operator]
    assert rows["inference", "co2"] == (pytest.approx(energy * 56.039 / 3.6e6, rel=0.01), "computed")
    assert rows["finetune", "energy"][1] == "rapl"
    assert rows["finetune", "power"][0] == pytest.approx(50, rel=0.5)
    samples = np.load(out / run["run_id"] / "samples.npz")
    assert float(np.median(samples["latency"])) == rows["inference", "latency_median"][0]
    assert len(samples["latency"]) == rows["inference", "repetitions"][0]
    assert samples["energy_calls"].sum() == calls
    assert samples["energy"].shape == samples["energy_dram"].shape == (3,)


def test_a_run_without_counters_is_honest(cli: Cli, runs: Path) -> None:
    for file in runs.glob("*/results.csv"):
        rows = rows_of(file)
        assert rows["inference", "energy"] == (None, "unavailable")
        assert ("inference", "power") not in rows
        assert ("inference", "energy_window") not in rows


def test_a_source_that_reads_nothing_is_refused_before_training(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GNNCOMPRESS_POWERCAP", str(tmp_path / "nowhere"))
    result = cli("train", "--energy", "rapl", "-o", tmp_path / "runs")
    assert result.code == 1
    assert "no energy counters" in result.err
    assert not list((tmp_path / "runs").glob("*/results.csv"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--country", "FRANCE"], "unknown country 'FRANCE'"),
        (["--energy-seconds", "0"], "--energy-seconds 0: give seconds, at least 0.1"),
        (["--quick", "--energy-seconds", "2"], "--quick and --energy-seconds: give one of them"),
        (["--batch-size", "4"], "--batch-size 4: node-classification is measured on its whole graph"),
        (["--energy", "sun"], "unknown energy source 'sun'"),
    ],
)
def test_wrong_options_of_measuring(cli: Cli, tmp_path: Path, options: list[str], message: str) -> None:
    result = cli("train", *options, "-o", tmp_path)
    assert result.code == 2
    assert message in " ".join(result.err.split())


def test_latency_of_a_batch(cli: Cli, tmp_path: Path) -> None:
    found = {}
    for size in (0, 2):
        options = ("-w", "digits-grid", "--epochs", 1, "--batch-size", size, "--energy", "none", "-o", tmp_path)
        result = cli("train", *options, "--json")
        assert result.code == 0, result.err
        found[size] = result.json["runs"][0]["metrics"]
    few = found[2]
    assert few["inference.throughput"] == pytest.approx(2 / few["inference.latency_median"])
    assert few["inference.latency_median"] < found[0]["inference.latency_median"]


def test_a_batch_larger_than_the_test_set_is_refused_before_training(cli: Cli, tmp_path: Path) -> None:
    result = cli("train", "-w", "digits-grid", "--batch-size", 10**6, "-o", tmp_path)
    assert result.code == 2
    assert "--batch-size 1000000: there are" in result.err
    assert not list(tmp_path.glob("*/results.csv"))


def test_profile_keeps_output_and_exit_code(counters: Path, tmp_path: Path) -> None:
    file = tmp_path / "costs.csv"
    code = "import sys, time; print('out'); print('err', file=sys.stderr); time.sleep(1); sys.exit(7)"
    done = command("profile", "-o", file, "--country", "FRA", "--label", "nap", "--", sys.executable, "-c", code)
    assert done.returncode == 7
    assert done.stdout == "out\n"
    assert done.stderr.startswith("err\n")
    assert "exit_status" in done.stderr
    rows = rows_of(file)
    assert rows["profile", "exit_status"] == (7, "measured")
    seconds = rows["profile", "duration"][0]
    assert seconds is not None
    assert 1 <= seconds < 5
    assert rows["profile", "energy"] == (pytest.approx(50 * seconds, rel=0.3), "rapl")
    assert rows["profile", "energy_dram"] == (pytest.approx(5 * seconds, rel=0.3), "rapl")
    assert rows["profile", "co2"][1] == "computed"
    again = command("profile", "-q", "-o", file, "--", "true")
    assert again.returncode == 0
    with file.open(newline="") as lines:
        read = list(csv.DictReader(lines))
    assert {row["model"] for row in read} == {"nap", "true"}
    assert len({row["run_id"] for row in read}) == 2


@pytest.mark.parametrize("code", [3, 130])
def test_profile_keeps_the_exit_code_whatever_becomes_of_its_own_output(code: int) -> None:
    line = f"{sys.executable} -m gnncompress profile --energy none -- sh -c 'exit {code}' 2>/dev/full"
    assert subprocess.run(["sh", "-c", line], timeout=60).returncode == code
    done = command("profile", "-q", "--", "sh", "-c", f"exit {code}", "--debug")
    assert (done.returncode, done.stderr) == (code, "")


def test_profile_of_nothing_to_run(cli: Cli, tmp_path: Path) -> None:
    result = cli("profile", "-o", tmp_path / "x.csv", "--", "no-such-command-anywhere")
    assert result.code == 127
    assert "no-such-command-anywhere: no such command" in result.err
    assert not (tmp_path / "x.csv").exists()


def test_profile_writes_into_no_other_file(cli: Cli, tmp_path: Path) -> None:
    file, proof = tmp_path / "notes.csv", tmp_path / "ran"
    file.write_text("my,notes\n")
    result = cli("profile", "-o", file, "--", "touch", proof)
    assert result.code == 1
    assert f"{file}: has not the columns" in " ".join(result.err.split())
    assert not proof.exists(), "it is found out before the command runs"
    assert file.read_text() == "my,notes\n"


@pytest.fixture(scope="module")
def pair(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A trained model and the same with hardly a weight."""
    folder = tmp_path_factory.mktemp("pair")
    options = ("--epochs", 20, "--energy", "none", "-o", folder, "--json")
    result = cli("prune", "-s", "0,0.98", "--no-finetune", *options)
    assert result.code == 0, result.err
    a, b = (folder / run["run_id"] for run in result.json["runs"])
    return a, b


FAST = ("--rounds", 5, "--seconds", 0.05, "--energy", "none")


def figures(result: Result) -> dict[str, Any]:
    assert result.code == 0, result.err
    return {one["metric"]: one for one in result.json["figures"]}


def test_compare_finds_the_worse_model(cli: Cli, pair: tuple[Path, Path]) -> None:
    a, b = pair
    found = figures(cli("compare", a, b / "model.safetensors", *FAST, "--json"))
    quality = found["accuracy"]
    assert quality["value"] == pytest.approx(quality["b"] - quality["a"])
    assert quality["high"] < 0
    assert quality["significant"]
    assert quality["verdict"].startswith("B is worse by")
    stored = rows_of(a / "results.csv")["evaluate", "accuracy"][0]
    assert quality["a"] == pytest.approx(stored)
    size = found["checkpoint_size"]
    assert (size["a"], size["b"]) == tuple((run / "model.safetensors").stat().st_size for run in pair)
    latency = found["latency_median"]
    assert latency["low"] <= latency["value"] <= latency["high"]
    assert 0.3 < latency["value"] < 3, "zeros in a dense matrix change no speed"


def test_a_model_against_itself_has_the_same_quality(cli: Cli, pair: tuple[Path, Path]) -> None:
    quality = figures(cli("compare", pair[0], pair[0], *FAST, "--json"))["accuracy"]
    assert (quality["value"], quality["low"], quality["high"]) == (0, 0, 0)
    assert quality["verdict"] == "no difference shown"


def test_compare_reads_counters(counters: Path, pair: tuple[Path, Path]) -> None:
    options = ("--rounds", 5, "--seconds", 0.05, "--energy-seconds", 0.2, "--json")
    done = command("compare", *pair, *options)
    assert done.returncode == 0, done.stderr
    found = {one["metric"]: one for one in json.loads(done.stdout)["figures"]}
    assert found["energy"]["source"] == "rapl"
    assert found["energy"]["a"] > 0
    assert found["energy"]["unit"] == "J"
    assert found["energy_dram"]["a"] == pytest.approx(found["energy"]["a"] / 10, rel=0.3)


def test_compare_prints_a_table(cli: Cli, pair: tuple[Path, Path]) -> None:
    result = cli("compare", *pair, *FAST)
    assert result.code == 0, result.err
    assert "verdict" in result.out
    assert "with 99 % intervals: of the median over rounds" in result.out
    assert "5 rounds: intervals of 99 % reach beyond the ratios seen" in result.err


def test_compare_refuses_what_cannot_be_compared(cli: Cli, pair: tuple[Path, Path], runs: Path, tmp_path: Path) -> None:
    result = cli("compare", pair[0], tmp_path)
    assert result.code == 1
    assert f"{tmp_path}: has no spec.json" in " ".join(result.err.split())
    measured = {name: chain for name, chain in chains_in(runs).items() if chain.measure is not None}
    other = runs / next(name for name, chain in measured.items() if chain.workload.split.seed == 1)
    result = cli("compare", pair[0], other)
    assert result.code == 2
    assert "not judged by the same items" in " ".join(result.err.split())
    result = cli("compare", *pair, "--confidence", 1.5)
    assert result.code == 2
    assert "--confidence 1.5" in result.err


def test_compare_runs_no_code_that_a_spec_names(cli: Cli, pair: tuple[Path, Path], tmp_path: Path) -> None:
    proof, code = tmp_path / "ran", tmp_path / "evil.py"
    code.write_text(f"open({str(proof)!r}, 'w')\n\ndef build(features, classes): ...\n")
    for name in ("model", "dataset"):
        folder = tmp_path / name
        folder.mkdir()
        for file in pair[0].iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        spec = json.loads((folder / "spec.json").read_text())
        spec["workload"] |= {name: f"{code}:build", "code": hashlib.sha256(code.read_bytes()).hexdigest()}
        (folder / "spec.json").write_text(json.dumps(spec))
        result = cli("compare", folder, folder, *FAST)
        assert result.code == 1
        assert "is run only with --trust" in " ".join(result.err.split())
    assert not proof.exists()


def test_compare_refuses_a_run_of_another_version(cli: Cli, pair: tuple[Path, Path], tmp_path: Path) -> None:
    for file in pair[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    spec = json.loads((tmp_path / "spec.json").read_text())
    (tmp_path / "spec.json").write_text(json.dumps({**spec, "format": 7}))
    result = cli("compare", pair[0], tmp_path)
    assert result.code == 1
    assert "is no spec of this version" in " ".join(result.err.split())


def test_doctor_tells(counters: Path) -> None:
    done = command("doctor", "--json")
    assert done.returncode == 0, done.stderr
    found = {one["what"]: one for one in json.loads(done.stdout)}
    assert found["counter intel-rapl:1 (package-1)"]["works"]
    assert found["--energy rapl"]["works"]
    assert "(rapl)" in found["--energy rapl"]["seen"]
    assert "takes rapl" in found["--energy auto"]["seen"]
    assert found["integer execution"]["works"]


@pytest.fixture
def level(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """What the doctor finds of integer execution at a level; nothing else is looked at."""
    monkeypatch.setattr("gnncompress.profiling.doctor.examine", list)

    def found(name: str) -> dict[str, Any]:
        monkeypatch.setenv("GNNCOMPRESS_LEVEL", name)
        done = cli("doctor", "--json")
        assert (done.code, done.err) == (0, "")
        (one,) = done.json
        assert one["what"] == "integer execution"
        return one

    return found


def test_doctor_names_the_level_of_integer_execution(level: Callable[[str], dict[str, Any]]) -> None:
    found = level("exact-f32")
    assert found["works"]
    assert found["seen"] == "level exact-f32: float32 products in sums short enough to be exact"
    assert "four times as long as with AVX-512 VNNI" in found["advice"]


def test_doctor_says_that_a_level_cannot_be_used(level: Callable[[str], dict[str, Any]]) -> None:
    found = level("avx9")
    assert not found["works"]
    assert found["seen"].startswith("GNNCOMPRESS_LEVEL=avx9: there is no such level; use one of: ")


def test_foreign_load_is_warned_of(cli: Cli, tmp_path: Path) -> None:
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.2)
        result = cli("train", "--epochs", 1, "--energy", "none", "-o", tmp_path, "--json")
    finally:
        busy.kill()
        busy.wait()
    assert result.code == 0, result.err
    assert result.json["runs"][0]["metrics"]["inference.cpu_foreign"] > 30
    assert "other processes took" in result.err
