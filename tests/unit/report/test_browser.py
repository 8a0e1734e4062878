"""The pages as a browser shows them: no error, nothing too wide, tables that sort."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from browser import BROWSER, ask
from sample import write_run
from sweep_sample import write_sweep

from certiprune import report
from certiprune.report import sweep

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")

WIDE = """
for (const details of document.querySelectorAll("details")) details.open = true;
return {
  width: innerWidth,
  over: [...document.querySelectorAll("body *")].filter((e) => {
    const inside = e.closest(".scroll, svg, pre");
    return !(inside && inside !== e) && e.getBoundingClientRect().right > innerWidth + 1;
  }).map((e) => e.tagName + "." + e.className),
  page: document.documentElement.scrollWidth,
  figures: [...document.querySelectorAll("figure svg")].length,
  broken: [...document.images].filter((image) => !image.naturalWidth).length,
};
"""
SORT = """
const table = document.querySelector("%s");
const column = (at) => [...table.tBodies[0].rows].map((row) => row.cells[at].innerText.split("\\n")[0].trim());
const at = [...table.tHead.rows[0].cells].findIndex((head) => head.innerText.replace(/\\u00ad/g, "").startsWith("%s"));
const head = table.tHead.rows[0].cells[at], button = head.querySelector("button");
const found = [column(at)];
for (let k = 0; k < 2; k++) { button.click(); found.push(head.getAttribute("aria-sort"), column(at)); }
table.tHead.rows[0].cells[0].querySelector("button").click();
return [...found, head.getAttribute("aria-sort"), button.type, document.querySelectorAll("[aria-sort]").length];
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    with write_run(folder) as records:
        # 19 seconds in all become 19 milliseconds and half an hour.
        for number, factor in ((1, 1e-3), (2, 100.0)):
            rows = records.outcomes("magnitude", number)
            records.add(*(replace(row, seconds=factor * row.seconds) for row in rows))
    return report.write(folder)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    return sweep.write(folder, write_sweep(folder, ("crown_ibp",), seeds=(0,)))


@pytest.mark.parametrize("width", [1280, 500])
@pytest.mark.parametrize("name", ["run", "swept"])
def test_nothing_is_too_wide_or_missing(
    name: str, width: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    found = ask(request.getfixturevalue(name), WIDE, tmp_path, width=width)
    assert found["width"] == width
    assert found["over"] == []
    assert found["page"] <= width
    assert found["figures"] >= 10
    assert found["broken"] == 0


def test_a_runs_table_sorts_by_the_column_that_is_clicked(run: Path, tmp_path: Path) -> None:
    found = ask(run, SORT % ("table.rounds", "Standard"), tmp_path)
    written, first, up, second, down, after, kind, sorted_columns = found
    assert [text.replace("\u00a0", " ") for text in written] == ["95 %", "90 %", "88 %"]
    assert (first, up) == ("ascending", written[::-1])
    assert (second, down) == ("descending", written)
    # Another column's heading takes the mark over, and a button sends no form.
    assert (after, kind, sorted_columns) == (None, "button", 1)


def test_seconds_are_sorted_as_durations(run: Path, tmp_path: Path) -> None:
    written, _, up, _, down, *_ = ask(run, SORT % ("table.rounds", "Time"), tmp_path)
    assert written == ["19 s", "19 ms", "31.7 min"]
    assert (up, down) == (["19 ms", "19 s", "31.7 min"], ["31.7 min", "19 s", "19 ms"])


def test_a_sweeps_table_sorts_with_what_is_missing_last(swept: Path, tmp_path: Path) -> None:
    written, _, up, _, down, *_ = ask(swept, SORT % ("table.study", "Certified"), tmp_path)
    plain = [text.replace("\u00a0", " ") for text in written]
    assert plain == ["20 %", "20 %", "50 %", "54 %", "30 %"]
    assert [text.replace("\u00a0", " ") for text in up] == ["20 %", "20 %", "30 %", "50 %", "54 %"]
    assert [text.replace("\u00a0", " ") for text in down] == ["54 %", "50 %", "30 %", "20 %", "20 %"]
