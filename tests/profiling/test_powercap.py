"""What is found in a powercap tree: components, periods, and why a zone cannot be read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gnncompress.profiling import powercap
from gnncompress.profiling.powercap import HOW_TO_ALLOW, find_zones
from tests.profiling.counters import PERIOD, RANGE, zone


def components(root: Path) -> dict[str, str]:
    return {one.path.name: one.component for one in find_zones(root)}


def test_components_of_a_flat_tree(tmp_path: Path) -> None:
    (tmp_path / "intel-rapl").mkdir()  # the class folder holds the driver itself, too
    for place, name in (
        ("intel-rapl:0", "package-0"),
        ("intel-rapl:0:0", "core"),
        ("intel-rapl:0:1", "uncore"),
        ("intel-rapl:0:2", "dram"),
        ("intel-rapl:1", "psys"),
    ):
        zone(tmp_path, place, name)
    assert components(tmp_path) == {
        "intel-rapl:0": "cpu",
        "intel-rapl:0:0": "",
        "intel-rapl:0:1": "",
        "intel-rapl:0:2": "dram",
        "intel-rapl:1": "",
    }


def test_a_nested_tree_is_found_as_a_flat_one_is(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl/intel-rapl:0", "package-0")
    zone(tmp_path, "intel-rapl/intel-rapl:0/intel-rapl:0:0", "dram")
    assert components(tmp_path) == {"intel-rapl:0": "cpu", "intel-rapl:0:0": "dram"}


def test_a_zone_that_is_shown_both_flat_and_nested_is_one(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0")
    zone(tmp_path, "intel-rapl:0/intel-rapl:0:0", "dram")
    zone(tmp_path, "intel-rapl:0:0", "dram")
    zone(tmp_path, "intel-rapl/intel-rapl:0", "package-0")
    assert [one.path.name for one in find_zones(tmp_path)] == ["intel-rapl:0", "intel-rapl:0:0"]


def test_zones_are_sorted_by_number_which_is_hexadecimal(tmp_path: Path) -> None:
    for number in ("a", "2", "10", "0"):
        zone(tmp_path, f"intel-rapl:{number}", f"package-{int(number, 16)}")
    assert [one.name for one in find_zones(tmp_path)] == ["package-0", "package-2", "package-10", "package-16"]


def test_what_another_driver_shows_again_has_no_component(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0")
    zone(tmp_path, "intel-rapl-mmio:0", "package-0")
    assert components(tmp_path) == {"intel-rapl:0": "cpu", "intel-rapl-mmio:0": ""}


def test_what_only_the_other_driver_shows_counts(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl-mmio:0", "package-0")
    assert components(tmp_path) == {"intel-rapl-mmio:0": "cpu"}


def test_period_is_one_unit_more_than_the_largest_value(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0")
    zone(tmp_path, "intel-rapl:1", "package-1", largest=2_000_000)
    assert [one.period for one in find_zones(tmp_path)] == [262143328850 + 61, 2_000_000]
    assert PERIOD == RANGE + 61


@pytest.mark.parametrize("largest", ["0", "-1", "many", "", "9" * 400, "9" * 5000, "inf"])
def test_a_range_that_is_none_is_a_problem(tmp_path: Path, largest: str) -> None:
    made = zone(tmp_path, "intel-rapl:0")
    (made.path / "max_energy_range_uj").write_text(largest)
    (found,) = find_zones(tmp_path)
    assert found.component == "cpu"
    assert found.problem.startswith("max_energy_range_uj: ")


def test_a_counter_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    (zone(tmp_path, "intel-rapl:0").path / "energy_uj").unlink()
    (found,) = find_zones(tmp_path)
    assert found.problem == "energy_uj: No such file or directory"


def test_what_may_not_be_read_says_how_to_allow_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zone(tmp_path, "intel-rapl:0")

    read = powercap.read_text

    def refuse(path: Path) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(powercap, "read_text", refuse)
    (found,) = find_zones(tmp_path)
    assert found.problem == f"energy_uj: permission denied; {HOW_TO_ALLOW}"
    assert "sudo chmod a+r" in HOW_TO_ALLOW


@pytest.mark.parametrize("file", ["name", "max_energy_range_uj", "energy_uj"])
@pytest.mark.parametrize(
    ("put", "why"),
    [
        (os.mkfifo, "a pipe, not a file"),
        (Path.mkdir, "a folder, not a file"),
        (lambda file: file.symlink_to("/dev/zero"), "a device, not a file"),
        (lambda file: file.write_bytes(b"\xff\xfe\x00"), "holds no number"),
    ],
)
def test_what_is_no_file_of_text_is_a_problem(file: str, put: Callable[[Path], None], why: str, tmp_path: Path) -> None:
    place = zone(tmp_path, "intel-rapl:0").path
    (place / file).unlink()
    put(place / file)
    (found,) = find_zones(tmp_path)
    assert found.component == "cpu"
    assert found.problem == f"{file}: {'not UTF-8' if file == 'name' and why == 'holds no number' else why}"


def test_a_part_of_a_package_whose_name_cannot_be_read_may_be_memory(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0")
    (zone(tmp_path, "intel-rapl:0:0").path / "name").write_bytes(b"\xff")
    assert components(tmp_path) == {"intel-rapl:0": "cpu", "intel-rapl:0:0": "dram"}


@pytest.mark.parametrize("text", ["-5", "9" * 30, "9" * 5000, "0x10", "\0"])
def test_a_counter_that_is_no_count_of_64_bits_is_a_problem(text: str, tmp_path: Path) -> None:
    (zone(tmp_path, "intel-rapl:0").path / "energy_uj").write_text(text)
    (found,) = find_zones(tmp_path)
    assert found.problem == "energy_uj: holds no number"
    with pytest.raises(ValueError, match=r"\w"):
        found.read()


def test_a_folder_without_a_name_is_no_zone(tmp_path: Path) -> None:
    (tmp_path / "intel-rapl:0").mkdir()
    (tmp_path / "dtpm:x").mkdir()
    zone(tmp_path, "other", "package-0")
    assert find_zones(tmp_path) == []


def test_no_folder_and_a_file_hold_no_zones(tmp_path: Path) -> None:
    assert find_zones(tmp_path / "nothing") == []
    (tmp_path / "file").write_text("")
    assert find_zones(tmp_path / "file") == []


def test_root_is_the_systems_unless_the_environment_names_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GNNCOMPRESS_POWERCAP", raising=False)
    assert powercap.root() == Path("/sys/class/powercap")
    monkeypatch.setenv("GNNCOMPRESS_POWERCAP", "")
    assert powercap.root() == Path("/sys/class/powercap")
    monkeypatch.setenv("GNNCOMPRESS_POWERCAP", str(tmp_path))
    zone(tmp_path, "intel-rapl:0")
    assert powercap.root() == tmp_path
    assert len(find_zones()) == 1
