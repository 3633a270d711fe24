"""`leanfit size` from the outside: tables and Records, JSON, the picture, and what a user may get wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from compress.cli.commands import app

ROOT = Path(__file__).parents[2]
RECORDS = str(ROOT / "studies" / "records" / "digits-resnet")
TABLE = str(ROOT / "studies" / "points" / "imp_mnist1d_mlp.csv")


SPARSE = str(ROOT / "studies" / "points" / "frantar2023_t5_c4_sparsity.csv")


def size(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["size", *arguments])
    assert done.exit_code == code, done.output
    return done.output


def answer(*arguments: str) -> dict[str, Any]:
    """The one JSON object."""
    return json.loads(CliRunner().invoke(app, ["size", *arguments, "--json"]).stdout)


def test_records_of_a_study_are_told_by_level_and_the_dense_is_the_reference():
    found = answer(RECORDS, "--where", "data=full", "--cost", "packed_bytes")
    assert found["by"] == ["level"] and found["asked"].startswith("keep 98%") and found["y"] == "error"
    assert {one["family"] for one in found["options"]} == {"dense", "native", "int8", "pruned", "pruned-int8"}
    assert found["best"]["chance"] >= 0.9 > found["elsewhere"]
    assert found["following"]["cost"] < found["best"]["cost"]


def test_accuracy_and_error_of_one_table_have_one_answer():
    options = (RECORDS, "--where", "data=full", "--cost", "params")
    error = answer(*options, "--y", "error", "--target", "0.04")["best"]
    accuracy = answer(*options, "--y", "accuracy", "--target", "96%")["best"]
    assert accuracy["cost"] == pytest.approx(error["cost"], rel=1e-6) and accuracy["family"] == error["family"]


def test_the_table_is_printed_and_a_picture_drawn(tmp_path: Path):
    picture = tmp_path / "chances.svg"
    told = size(
        TABLE, "--cost", "params_nonzero", "--y", "test_err", "--by", "width", "--where", "n_train=2000", "--drop", "2",
        "--picture", str(picture),
    )  # fmt: skip
    told = " ".join(told.split())
    assert "keeps test_err" in told and "measure next" in told and "width 128 at params_nonzero" in told
    assert picture.read_text().startswith(("<svg", "<?xml"))


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ((TABLE, "--cost", "params_nonzero", "--y", "test_err", "--keep", "98%", "--drop", "1"), 2, "one target"),
        ((TABLE, "--cost", "params_nonzero", "--y", "test_err", "--by", "widht"), 2, "width"),
        ((TABLE, "--cost", "params_nonzero", "--y", "test_err", "--by", "density"), 2, "families apart"),
        ((TABLE, "--cost", "params_nonzero", "--y", "test_err", "--keep", "much"), 2, "valid number"),
        ((TABLE, "--cost", "nothing", "--y", "test_err"), 2, "no column"),
        ((TABLE, "--cost", "params_nonzero", "--y", "test_err", "--where", "width=7"), 5, "width"),
        ((TABLE, "--cost", "params_nonzero", "--y", "test_err", "--picture", "x.pdf"), 2, ".svg"),
        (("nowhere.csv",), 7, "nowhere.csv"),
        ((SPARSE, "--cost", "sparsity", "--y", "val_loss"), 2, '--cost "1 - sparsity"'),
    ],
)
def test_what_a_user_gets_wrong_is_one_sentence_with_its_own_exit_code(arguments, code, told):
    done = CliRunner().invoke(app, ["size", *arguments])
    assert done.exit_code == code, (done.exit_code, done.output)
    assert told in done.output.replace("\n", " ") and "Traceback" not in done.output
