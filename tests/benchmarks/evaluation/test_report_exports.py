"""The exports of a report, JSON and Parquet, hold what the records say."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from PIL import Image
from pyarrow import parquet

from countgen.app.cli import main
from countgen.benchmarks.evaluation.image_statistics import image_statistics
from countgen.benchmarks.evaluation.records import RECORDS, read_run, to_line
from tests.benchmarks.evaluation.made_records import record, table_run, write_run


def test_json_holds_every_figure_and_no_nan(tmp_path, capsys):
    run = table_run(tmp_path / "run")
    main(["report", str(run), "--json"])
    document = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    plain, auto = document["sections"][0]["methods"]
    assert (plain["name"], auto["name"]) == ("plain", "auto")
    assert auto["scores"]["detector"]["accuracy"] == 0.75
    assert auto["levels"]["easy"]["failed"] == 1
    assert document["sections"][0]["versus"]["detector"][0]["comparison"]["duel"]["won"] == 3
    assert document["sections"][0]["agreements"]["detector & counter"]["kappa"] == 1


def test_parquet_keeps_every_field(tmp_path):
    run = table_run(tmp_path / "run")
    main(["report", str(run), "--parquet", str(tmp_path / "records.parquet")])
    rows = {row["key"]: row for row in parquet.read_table(tmp_path / "records.parquet").to_pylist()}
    _, records = read_run(run)
    assert len(rows) == len(records)
    for one in records:
        row = rows[one.key]
        assert (row["prompt"], row["seed"], row["status"]) == (one.prompt, one.seed, one.status)
        assert {judge: tuple(found) for judge, found in row["judge_counts"]} == one.judge_counts
        assert [tuple(step.values()) for step in row["trace"]] == list(one.trace)
        assert [target["target_count"] for target in row["targets"]] == [3]
        assert row["right"] == (one.judge_counts.get("detector") == (3,))


def test_parquet_has_the_statistics_of_every_image_and_of_its_plain_image(tmp_path: Path) -> None:
    kept = {"truncated": True, "objects_kept": 0.75, "background_change": 0.125, "structural_similarity": 0.5}
    run = write_run(tmp_path / "run", [record("plain"), record("auto", **kept), record("noise", counted=None)])
    plain, auto, noise = read_run(run)[1]
    Image.new("RGB", (32, 24)).save(run / str(auto.image))
    auto = replace(auto, before=plain.image)
    (run / RECORDS).write_bytes(b"".join(map(to_line, (plain, auto, noise))))
    main(["report", str(run), "--parquet", str(tmp_path / "records.parquet")])
    rows = {row["method"]: row for row in parquet.read_table(tmp_path / "records.parquet").to_pylist()}
    assert {name: rows["auto"][name] for name in kept} == kept
    grey, black = (asdict(image_statistics(np.asarray(Image.open(run / str(one.image))))) for one in (plain, auto))
    assert black["dark"] == 1
    assert rows["auto"]["image_statistics"] == black
    assert rows["auto"]["plain_image_statistics"] == grey
    assert rows["plain"]["image_statistics"] == rows["plain"]["plain_image_statistics"] == grey
    assert rows["noise"]["image_statistics"] is None
