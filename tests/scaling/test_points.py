"""Points: what is read from files, Records, frames and mappings, and what is said about what cannot be."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest
from data_sets import require_data
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluate.core.errors import ArtifactError, DataError, LeanfitError, UsageError
from evaluate.scaling.points.cells import parse_conditions
from evaluate.scaling.points.formula import Formula
from evaluate.scaling.points.point_files import read_points
from evaluate.scaling.points.points import Points, input_checks, target_hint

PUBLISHED = Path(__file__).parents[2] / "studies" / "points"
ROWS = [(1e4, 0.3, "a"), (2e4, 0.2, "a"), (4e4, 0.15, "b"), (8e4, 0.12, "b")]
TABLE = {"params": [r[0] for r in ROWS], "error": [r[1] for r in ROWS], "level": [r[2] for r in ROWS]}


def csv_text(sign: str = ",", head: str = "params,error,level") -> str:
    lines = [head.replace(",", sign), *(sign.join(map(str, row)) for row in ROWS)]
    return "\n".join(lines) + "\n"


def trial(number: int, role: str = "dense", **changes) -> dict:
    accuracy = {"metric": "accuracy", "value": 90.0 - number, "low": 88.0, "high": 91.0, "n": 1000}
    sizes = {
        "params": 1000 * (number + 1),
        "nonzero": 900,
        "macs": 5000,
        "bytes": 4000,
        "packed_bytes": 3000,
        "bits": 8,
    }
    level = {"name": "prune-int8", "density": 0.5, "rank": 4}
    return {
        "schema": 1, "kind": "trial", "id": f"t{number}", "study": "s", "created": f"2026-11-22T10:00:{number:02d}Z",
        "status": "finished", "reason": None, "role": role, "size": {"width": 16, "depth": 8}, "level": level,
        "data": {"samples": 1000}, "train_samples": 1000,
        "seed": number % 2, "task": {"name": "digits", "fingerprint": "f"}, "sizes": sizes,
        "retained": {"params": 0.51, "macs": 0.4, "bytes": 0.2}, "accuracy": accuracy, "error": None, "loss": 0.4,
        "train_macs": 1e9, "seconds": 2.0, **changes,
    }  # fmt: skip


@pytest.fixture
def file(tmp_path):
    def write(content: str | bytes, name: str = "points.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def same(points: Points) -> None:
    x, y, groups = points.select(["params"], "error", group="level")
    np.testing.assert_array_equal(x[:, 0], TABLE["params"])
    np.testing.assert_array_equal(y, TABLE["error"])
    assert groups is not None
    assert groups.tolist() == TABLE["level"]


@pytest.mark.parametrize("sign", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig", "utf-16"])
def test_every_kind_of_csv_gives_the_same_points(file, sign, end, code):
    same(read_points(file(csv_text(sign).replace("\n", end).encode(code))))


@pytest.mark.parametrize("top", ["# sizes of 2026\n#\n\n" + csv_text(), "# from numpy\n# " + csv_text()])
def test_comments_at_the_top_are_no_header(file, top):
    points = read_points(file(top))
    same(points)
    assert points.label(0) in ("line 5", "line 3")


def test_a_header_that_is_a_comment(file):
    assert read_points(file("# saved\n# n,y\n1,3\n2,2\n")).columns["y"].tolist() == [3, 2]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([dict(zip(TABLE, row, strict=True)) for row in ROWS]),
        json.dumps(TABLE),
        json.dumps({name: {str(i): value for i, value in enumerate(values)} for name, values in TABLE.items()}),
        "\n".join(json.dumps(dict(zip(TABLE, row, strict=True))) for row in ROWS),
    ],
    ids=["rows", "columns", "pandas", "lines"],
)
def test_every_kind_of_json_gives_the_same_points(file, text):
    same(read_points(file(text, "points.json")))
    same(read_points(file(gzip.compress(text.encode()), "points.json.gz")))


def test_mappings_rows_and_points_are_points():
    same(read_points(TABLE))
    same(read_points({name: np.array(values) for name, values in TABLE.items()}))
    same(read_points([dict(zip(TABLE, row, strict=True)) for row in ROWS]))
    same(read_points(read_points(TABLE)))


def test_a_pandas_frame_is_points():
    pandas = pytest.importorskip("pandas")
    same(read_points(pandas.DataFrame(TABLE)))
    frame = pandas.DataFrame(TABLE, index=[7, 8, 9, 10])
    frame.loc[8, "error"] = None
    assert "error is missing in row 8" in frame_problem(read_points(frame))
    with pytest.raises(DataError, match="more than one column 'error'"):
        read_points(pandas.concat([frame, frame[["error"]]], axis=1))


def frame_problem(points: Points) -> str:
    return points.take(["params"], "error").problems[0]


def test_nested_json_has_dotted_names(file):
    text = "\n".join(json.dumps({"size": {"width": w}, "loss": 1 / w, "raw": [1, 2]}) for w in (1, 2, 4))
    assert list(read_points(file(text, "x.jsonl")).columns) == ["size.width", "loss"]


@pytest.mark.parametrize("name", sorted(path.name for path in PUBLISHED.glob("*.csv*")))
def test_the_published_points_are_read_whole(name):
    path = PUBLISHED / name
    text = (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()).decode()
    points = read_points(path)
    assert len(points) == len(text.splitlines()) - 1
    assert not points.problems
    assert list(points.columns) == text.splitlines()[0].split(",")


def test_chinchilla_without_the_five_worst():
    path = require_data("chinchilla", ["scaling/chinchilla_epoch_245.csv"]) / "scaling" / "chinchilla_epoch_245.csv"
    x, y, groups = read_points(path, where="used_in_240_fit=true").select(["N", "D"], "loss")
    assert x.shape == (240, 2)
    assert y.shape == (240,)
    assert groups is None


# What is dropped, and how it is said.


def test_rows_that_no_law_can_use_are_named(file):
    text = "params,error\n1e3,0.5\n,0.4\n2e3,nan\n3e3,inf\n-1,0.2\n0,0.2\n5e3,failed\n6e3,0.2\n7e3,0.1\n"
    chosen = read_points(file(text)).take(["params"], "error")
    assert chosen.columns["params"].tolist() == [1e3, 6e3, 7e3]
    assert chosen.rows.tolist() == [0, 7, 8]
    assert chosen.problems == [
        "6 of 9 rows were left out: params is missing in line 3; params is not positive in lines 6, 7; error is "
        "missing in line 4; error is not a number in line 8; error is not finite in line 5"
    ]


def test_a_domain_allows_zero_and_has_an_end():
    points = read_points({"S": [0, 0.5, 0.9, 1.5], "loss": [1, 2, 3, 4]})
    assert len(points.take(["S"], "loss").y) == 3
    chosen = points.take(["S"], "loss", domains={"S": (0, 1)})
    assert len(chosen.y) == 3
    assert "S is not between 0 and 1 in row 4" in chosen.problems[0]


def test_weights_and_groups_are_dropped_with_their_rows():
    table = {"n": [1, 2, 3, 4, 5], "y": [5, 4, 3, 2, 1], "w": [1, 2, 0, 4, 5], "run": ["a", "", "b", "b", "c"]}
    chosen = read_points(table).take(["n"], "y", weight="w", group="run")
    assert chosen.weights is not None and chosen.groups is not None
    assert (chosen.weights.tolist(), chosen.groups.tolist()) == ([1, 4, 5], ["a", "b", "c"])


def test_columns_of_text_are_categories_where_the_law_takes_them():
    points = read_points(TABLE)
    with pytest.raises(DataError, match=r"'level' is text \(as 'a'\).*those are: params, error"):
        points.take(["params", "level"], "error")
    chosen = points.take(["params", "level"], "error", names=["level"])
    assert chosen.columns["level"].tolist() == TABLE["level"]
    assert chosen.x.shape == (4, 2)


def test_levels_that_look_like_numbers_are_names():
    points = read_points(PUBLISHED / "quest_qat_scaling.csv")
    chosen = points.take(["N", "D", "grp"], "loss", names=["grp"])
    assert len(chosen.y) == 104
    assert {"16", "2:4int4", "fp4", "1NOH"} < set(chosen.columns["grp"].tolist())
    (columns, rows, problems) = points.inputs(["N", "grp"], names=["grp"])
    assert (len(columns["grp"]), len(rows), problems) == (104, 104, [])


NUMBERS = {
    "92.1%": "write 0.921 (a fraction), or 92.1 in every row", '"1,000"': "write 1000", "1.2M": "write 1200000",
    "3e9 params": "write a number such as 1e6", "1 000": "write 1000", "$5": "a plain number was expected",
}  # fmt: skip


@pytest.mark.parametrize("cell", NUMBERS)
def test_numbers_in_another_notation_are_errors_that_say_what_to_write(file, cell):
    path = file(f"params,error\n1e3,0.5\n2e3,{cell}\n3e3,.25\n4e3,2E-1\n")
    with pytest.raises(DataError) as caught:
        read_points(path).take(["params"], "error")
    assert "line 3 has" in str(caught.value)
    assert NUMBERS[cell] in str(caught.value)


def test_decimal_commas_are_errors(file):
    with pytest.raises(DataError, match=r"line 2 has '0,5' in column 'error'.*write 0\.5"):
        read_points(file("params;error\n1;0,5\n2;0,4\n3;0,3\n")).take(["params"], "error")


def test_rows_of_the_wrong_length_are_named(file):
    points = read_points(file("params,error\n1,000,0.5\n2,0.4\n3\n4,0.3\n5,0.2"))
    assert len(points) == 3
    assert points.problems == [
        "2 of 5 rows were skipped: line 2 has 3 cells, 2 were expected; is a number written with a comma (1,000)?"
    ]


def test_a_torn_last_line_of_json_is_named(file):
    text = "\n".join(json.dumps({"n": n, "y": 1 / n}) for n in (1, 2, 3, 4))
    points = read_points(file(text + '\n[]\n{"n": 5, "y', "points.jsonl"))
    assert len(points) == 4
    assert points.problems == ["line 5 is no JSON object; it was skipped", "line 6 was cut off; it was skipped"]


BROKEN = {
    "empty": (b"", DataError, "is empty; a header"),
    "signs": (b";;\n", DataError, "a header with the names of columns was expected"),
    "blank": (b" \n\n", DataError, "is empty"),
    "header": (b"params,error\n", DataError, "has a header and no rows"),
    "twice": (b"n,error,n\n1,2,3\n", DataError, "'n' more than once, as columns 1 and 3"),
    "headless": (b"1,2\n3,4\n", DataError, "a header with the names of columns was expected"),
    "excel": (b"PK\x03\x04rest", ArtifactError, "is an Excel or zip file; save the table as CSV"),
    "parquet": (b"PAR1\x00", ArtifactError, "Parquet"),
    "latin": ("n,größe\n1,2\n".encode("latin-1"), ArtifactError, "no text in UTF-8"),
    "gzip": (gzip.compress(b"n,y\n1,2\n" * 50)[:-9], ArtifactError, "damaged or was cut off"),
    "numbers": (b"[1, 2]", DataError, "item 1 is no JSON object"),
    "no json": (b"{nothing", ArtifactError, "no whole JSON"),
    "ragged": (b'{"n": [1, 2], "y": [1]}', DataError, "columns of one length were expected, got n 2, y 1"),
    "nothing": (b"[]", DataError, "no rows with values"),
    "deep": (b"[" * 100_000, ArtifactError, "no whole JSON"),
    "quote": (b'n,y\n1,"' + b"a" * 140_000 + b'"\n', ArtifactError, "cannot be read as CSV"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_one_clear_error(file, kind):
    content, error, words = BROKEN[kind]
    path = file(content)
    with pytest.raises(error) as caught:
        read_points(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=80), st.text(max_size=80).map(lambda text: text.encode(errors="replace"))))
def test_no_file_gives_another_error_than_ours(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(content)
    try:
        points = read_points(path)
        points.take(list(points.columns)[:1], list(points.columns)[-1])
    except LeanfitError as error:
        assert str(error)


def test_places_that_are_no_points(tmp_path, file):
    near = file(csv_text(), "near.csv")
    with pytest.raises(ArtifactError, match=r"there is no .*far\.csv \(that folder has near\.csv\)"):
        read_points(near.with_name("far.csv"))
    with pytest.raises(ArtifactError, match=r"a folder without Records; name a file in it: near\.csv"):
        read_points(tmp_path)
    with pytest.raises(UsageError, match="not as int"):
        read_points(3)
    with pytest.raises(DataError, match=r"shape \(2, 2\)"):
        read_points({"n": [[1, 2], [3, 4]]})


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"n": [1, 2], "y": [1, 2]}, "2 of 2 rows can be used; a law takes 3 points at least"),
        ({"n": [1, 2, 3], "y": [1, 2, 0]}, r"2 of 3 rows can be used \(y is not positive in row 3\)"),
        ({"n": [7, 7, 7], "y": [1, 2, 3]}, "n is 7 in all 3 rows: no law can be told along it"),
        ({"n": [1, 2, 3], "y": [0.5, 0.5, 0.5]}, "y is 0.5 in all 3 rows: there is nothing to explain"),
    ],
)
def test_points_that_say_nothing(table, words):
    with pytest.raises(DataError, match=words):
        read_points(table).select(["n"], "y")


def test_wrong_columns():
    points = read_points(TABLE)
    with pytest.raises(UsageError, match=r"no column 'parms'; did you mean 'params'\? Its columns: params, error"):
        points.select(["parms"], "error")
    with pytest.raises(UsageError, match="'error' is named twice"):
        points.select(["error"], "error")
    with pytest.raises(UsageError, match="separated by commas, semicolons or tabs, not by spaces"):
        read_points({"N D loss": ["1 2 3"]}).column("N")


# Conditions.


@pytest.mark.parametrize(
    ("filters", "rows"),
    [
        ("level=a", [0, 1]), ("level!=a", [2, 3]), ("level=A", [0, 1]), ("params>=2e4,error<0.2", [2, 3]),
        ("level=a|b", [0, 1, 2, 3]), ("params=20000|4e4", [1, 2]), ("params == 1e4", [0]),
        (["level=b", "error<=.12"], [3]), ("", [0, 1, 2, 3]), ("error!=0.3", [1, 2, 3]),
    ],
)  # fmt: skip
def test_conditions(filters, rows):
    assert read_points(TABLE).where(filters).columns["params"].tolist() == [TABLE["params"][row] for row in rows]


def test_rows_keep_their_names_through_conditions(file):
    kept = read_points(file(csv_text() + "9e4,none,b\n1e5,0.1,b\n")).where("level=b")
    assert kept.take(["params"], "error").problems == ["1 of 4 rows were left out: error is missing in line 6"]


@pytest.mark.parametrize(
    ("filters", "error", "words"),
    [
        ("levle=a", UsageError, "no column 'levle'; did you mean 'level'"),
        ("level", UsageError, "expected NAME=VALUE"),
        ("level=", UsageError, "expected NAME=VALUE"),
        ("=a", UsageError, "expected NAME=VALUE"),
        ("params<many", UsageError, "params is compared with a number, not 'many'"),
        ("params<1|2", UsageError, r"\| goes with = and !="),
        ("level=c", DataError, "no row has level=c; level holds a, b"),
        ("level=prnued", DataError, "no row has level=prnued; level holds a, b"),
        ("params=5", DataError, "no row has params=5; params holds 10000, 20000, 40000, 80000"),
        ("level=a,params>3e4", DataError, "no row has params>3e4 among the rows that meet the conditions before it"),
    ],
)
def test_wrong_conditions(filters, error, words):
    with pytest.raises(error, match=words):
        read_points(TABLE).where(filters)


def test_values_with_commas_stand_in_quotes():
    (condition,) = parse_conditions('run="width 8, seed 0"')
    assert (condition.name, condition.values) == ("run", ["width 8, seed 0"])


# Records.


def write_records(folder: Path, records: list[dict]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def test_a_folder_of_trials(tmp_path):
    failed = trial(9, status="failed", reason={"kind": "PassError", "message": "no layer left"})
    records = [*(trial(n) for n in range(4)), trial(2), failed, {"schema": 1, "kind": "stage", "name": "x"}]
    points = read_points(write_records(tmp_path / "runs" / "a", records).parent)
    assert points.columns["params"].tolist() == [1000, 2000, 3000, 4000]
    np.testing.assert_allclose(points.columns["error"], [0.10, 0.11, 0.12, 0.13])
    np.testing.assert_allclose(points.columns["accuracy"], [0.90, 0.89, 0.88, 0.87])
    row = {name: column[1] for name, column in points.columns.items()}
    assert (row["role"], row["level"], row["study"], row["task"]) == ("dense", "prune-int8", "s", "digits")
    assert (row["density"], row["level_density"], row["rank"], row["width"], row["seed"]) == (0.51, 0.5, 4, 16, 1)
    assert (row["samples"], row["compute"], row["loss"], row["bits"]) == (1000, 1e9, 0.4, 8)
    assert row["run"] == "width 16, depth 8, samples 1000, seed 1"
    assert points.problems == ["1 trial failed and is no point: t9 (no layer left)"]
    same_file = read_points(tmp_path / "runs" / "a" / "records.jsonl")
    assert same_file.columns["error"].tolist() == points.columns["error"].tolist()


def test_runs_of_compress_give_two_rows():
    def side(params: int, value: float) -> dict:
        return {"sizes": {"params": params, "bytes": 4 * params}, "accuracy": {"metric": "accuracy", "value": value}}

    record = {
        "schema": 1, "kind": "compress", "id": "c", "name": "half",
        "baseline": side(100, 92), "compressed": side(50, 90),
        "recipe": {"seed": 3, "model": {"name": "mlp", "width": 8}}, "task": {"name": "digits", "splits": {"train": 9}},
    }  # fmt: skip
    points = read_points([record, {"schema": 1, "kind": "bench", "id": "b"}])
    assert points.columns["role"].tolist() == ["dense", "compressed"]
    assert points.columns["density"].tolist() == [1, 0.5]
    np.testing.assert_allclose(points.columns["error"], [0.08, 0.10])
    assert set(points.columns["run"].tolist()) == {"width 8, seed 3"}


def test_folders_without_trials(tmp_path):
    folder = write_records(tmp_path / "a", [{"schema": 1, "kind": "bench", "id": "b"}])
    with pytest.raises(DataError, match="no finished trial and no finished run; it has Records of the kind bench"):
        read_points(folder)
    with pytest.raises(DataError, match="is a law, not points"):
        read_points([{"schema": 1, "kind": "law", "law": "power"}])
    failed = write_records(tmp_path / "b", [trial(0, status="failed", reason=None)])
    with pytest.raises(DataError, match="1 trial failed"):
        read_points(failed)
    (tmp_path / "c").mkdir()
    with pytest.raises(ArtifactError, match="no records were found"):
        read_points(tmp_path / "c")


@pytest.mark.parametrize("part", ["size", "level", "data", "sizes", "retained", "accuracy", "task"])
def test_trials_with_parts_missing_are_rows_with_gaps(part):
    points = read_points([trial(0, **{part: None}), trial(1), trial(2), trial(3)])
    assert len(points) == 4
    lost = {"sizes": "params", "accuracy": "error", "retained": "density", "train_samples": "samples", "size": "width"}
    if part in lost:
        assert np.isnan(points.columns[lost[part]][0])


# Hints.


def hinted(table: dict, y: str, group: str | None = None) -> str:
    points = read_points(table)
    x = next(name for name in table if name not in (y, "run", "role"))
    return " ".join(input_checks(points, points.take([x], y, group=group), group))


def test_hints_on_runs_and_roles():
    n = [1, 2, 3, 4]
    assert hinted({"n": n, "error": [0.5, 0.4, 0.3, 0.2]}, "error") == ""
    assert hinted({"n": n, "loss": [5, 4, 3, 2]}, "loss") == ""
    runs = {"n": [*n, 5, 6], "loss": [6, 5, 4, 3, 2, 1], "run": ["a", "a", "b", "b", "c", "c"]}
    assert "6 points come from 3 runs" in hinted(runs, "loss")
    assert hinted(runs, "loss", group="run") == ""
    roles = {"n": n, "loss": [4, 3, 2, 1], "role": ["dense", "native", "native", "native"]}
    assert "different role (dense 1, native 3); --where role=dense takes one" in hinted(roles, "loss")


def test_targets_in_another_unit():
    assert "ask for 0.08" in target_hint("error", 0.05, 0.3, 8)
    assert "ask for 8" in target_hint("error", 5, 30, 0.08)
    assert target_hint("error", 0.05, 0.3, 0.08) == target_hint("loss", 2, 5, 1.5) == ""


# Formulas.


@settings(max_examples=60, deadline=None)
@given(st.floats(1, 1e6), st.floats(1, 1e6))
def test_formulas_are_arithmetic(n, d):
    for text in ("6*N*D", "N + 2.5*D/3", "(N*D)**0.5", "-N*-D", "1e3*N**2 - 1 + 2*1"):
        np.testing.assert_allclose(Formula(text, ("N", "D"))({"N": n, "D": d}), eval(text, {"N": n, "D": d}))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("6*M*D", "unknown name 'M'; known: N, D"), ("6*N^2", r"a power is written \*\*, not \^"),
        ("__import__('os')", "Call is not known"), ("N.real", "Attribute is not known"), ("N if D else 1", "IfExp"),
        ("N[0]", "Subscript"), ("6*", "cannot be read"), ("", "a formula such as"), ("6*1e9", "names no variable"),
        ("N*True", "True is no number"), ("N*2j", "2j is no number"), ("N*'a'", "'a' is no number"),
        ("N" * 300, "at most"),
        ("N\0", "cannot be read"), ("(" * 150 + "N" + ")" * 49, "cannot be read"), ("lambda: N", "Lambda"),
        ("N//D", "FloorDiv"), ("~N", "Invert"), ("N<D", "Compare"), ("(N:=3)", "NamedExpr"),
        ("max(N, D)", "Call"),
    ],
)  # fmt: skip
def test_formulas_that_are_none(text, words):
    with pytest.raises(UsageError, match=words):
        Formula(text, ("N", "D"))


def test_formulas_must_be_positive_and_finite():
    for text in ("N - 2*N", "N*9**9**9**9", "N/0"):
        with pytest.raises(DataError, match="a positive number was expected"):
            Formula(text, ("N",))({"N": 3.0})


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("level=prnued", "no row has level=prnued; did you mean 'pruned'"),
        ("level!=prnued", "no row has a value of the condition level!=prnued; did you mean 'pruned'"),
        ("level=dense|prnued", "no row has a value of the condition level=dense|prnued; did you mean 'pruned'"),
    ],
)
def test_a_misspelt_value_is_no_condition(condition, said):
    points = read_points({"level": ["dense", "pruned", "epochs 3"], "params": [1.0, 2.0, 3.0]})
    with pytest.raises(DataError, match=re.escape(said)):
        points.where(condition)
    assert len(points.where("level!=epochs 5")) == 3  # one of a row of names that this table happens not to have
    assert len(points.where("level=dense|int8")) == 1
