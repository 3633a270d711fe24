"""Tasks of folders, tables, arrays, texts and data sets: what is read, how it is split, what is said of wrong ones."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, TensorDataset

from compress import Task, get_task
from compress.core.errors import RecipeError
from compress.pipeline.given import given_task, named_block
from compress.tasks import LoaderSplit, TensorSplit, datasets
from evaluate.core.errors import DataError

DRAW = np.random.default_rng(0)


def write_images(root, classes=("cat", "dog"), count=10, size=8):
    for shade, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for n in range(count):
            pixels = np.full((size, size, 3), 100 * shade + n, np.uint8)
            Image.fromarray(pixels).save(root / name / f"{n}.png")
    return root


def test_a_folder_of_class_folders_is_split_with_its_classes_even(tmp_path):
    task = get_task("images", path=str(write_images(tmp_path / "all")), normalize="unit")
    assert task.classes == ("cat", "dog")
    assert [len(split) for split in task.splits().values()] == [14, 2, 4]
    assert task.example(1)["image"].shape == (1, 3, 8, 8)
    for split in task.splits().values():
        bright = split.first(len(split))["image"].mean((1, 2, 3)) * 255 >= 100
        assert torch.equal(bright.long(), split.all_targets())
    assert task.fingerprint() == get_task("images", path=str(tmp_path / "all"), normalize="unit").fingerprint()


def test_folders_of_splits_are_kept(tmp_path):
    for part, count in (("train", 10), ("val", 3), ("test", 4)):
        write_images(tmp_path / part, count=count)
    task = given_task(f"images:{tmp_path}")
    assert [len(split) for split in task.splits().values()] == [20, 6, 8]


def test_images_of_two_sizes_ask_for_one(tmp_path):
    write_images(tmp_path / "all")
    Image.new("RGB", (9, 8)).save(tmp_path / "all" / "dog" / "z.png")
    with pytest.raises(DataError, match=r"z.png is \[8, 9\] pixels.*size"):
        get_task("images", path=str(tmp_path / "all"))
    assert get_task("images", path=str(tmp_path / "all"), size=6).example(1)["image"].shape == (1, 3, 6, 6)


def write_table(path, rows=40, label=lambda n: "ab"[n % 2]):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["height", "width", "kind"])
        writer.writerows([[n, 2.5 * n, label(n)] for n in range(rows)])
    return path


def test_a_table_gives_classes_or_values_by_its_target(tmp_path):
    task = given_task(f"csv:{write_table(tmp_path / 'a.csv')}")
    assert task.classes == ("a", "b") and task.metric == "accuracy"
    assert task.example(1)["input"].shape == (1, 2)
    train = torch.cat([split.inputs["input"] for split in (task.train,)])
    assert train.mean(0).abs().max() < 1e-5 and (train.std(0) - 1).abs().max() < 1e-5
    numbers = get_task("csv", path=str(write_table(tmp_path / "b.csv", label=lambda n: n / 7)))
    assert numbers.metric == "mse" and numbers.classes == ()
    other = get_task("csv", path=str(tmp_path / "b.csv"), target="height", kind="values", standardize=False)
    assert other.train.all_targets().max() >= 30


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n", "and rows; got 1 lines"),
        ("a,b\n1,2\n3\n", "line 3: 1 values for 2 columns"),
        ("a,b\n1,2\nx,2\n", "line 3: column 'a' holds 'x', no number"),
    ],
)
def test_a_broken_table_is_said_by_line(tmp_path, content, message):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        get_task("csv", path=str(tmp_path / "t.csv"))


def test_a_column_that_is_not_there_names_the_nearest(tmp_path):
    with pytest.raises(DataError, match="no column 'widht'; did you mean 'width'"):
        get_task("csv", path=str(write_table(tmp_path / "a.csv")), target="widht")


def test_arrays_of_one_or_of_named_splits(tmp_path):
    x, y = DRAW.random((30, 3)).astype("float32"), np.arange(30) % 3
    np.savez(tmp_path / "one.npz", x=x, y=y)
    np.savez(tmp_path / "two.npz", x_train=x[:20], y_train=y[:20], x_test=x[20:], y_test=y[20:])
    np.savez(tmp_path / "none.npz", a=x)
    assert [len(s) for s in given_task(f"npz:{tmp_path / 'one.npz'}").splits().values()] == [21, 3, 6]
    assert [len(s) for s in given_task(f"npz:{tmp_path / 'two.npz'}").splits().values()] == [18, 2, 10]
    with pytest.raises(DataError, match="it has a"):
        given_task(f"npz:{tmp_path / 'none.npz'}")


def test_lines_of_json_need_their_keys_and_a_file_that_is_not_there_is_said(tmp_path):
    (tmp_path / "t.jsonl").write_text(json.dumps({"text": "good", "label": 1}) + "\n" + json.dumps({"txt": "bad"}))
    with pytest.raises(DataError, match=r"line 2: no 'text'; it has txt"):
        get_task("text", path=str(tmp_path / "t.jsonl"), tokenizer="none")
    with pytest.raises(DataError, match="not found"):
        given_task("csv:nowhere.csv")
    with pytest.raises(RecipeError, match="unknown task 'digit'; did you mean 'digits'"):
        named_block("digit", "task")


class Dicts(Dataset):
    """Samples as Hugging Face gives them."""

    def __init__(self, count=40):
        self.x = torch.arange(count * 4).reshape(count, 4).float()

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return {"id": f"n{index}", "features": self.x[index].tolist(), "label": index % 4}


def test_a_data_set_of_dicts_takes_named_entries_and_holds_out_even_classes():
    task = Task.from_dataset(Dicts(), input="features", target="label")
    assert [len(split) for split in task.splits().values()] == [28, 4, 8]
    assert list(task.example()) == ["features"] and len(task.classes) == 4
    seen = torch.cat([split.inputs["features"][:, 0] for split in task.splits().values()])
    assert len(seen.unique()) == 40
    with pytest.raises(DataError, match="'id': a text"):
        Task.from_dataset(Dicts())
    with pytest.raises(DataError, match=r"no 'lable'.*label.*Say target"):
        Task.from_dataset(Dicts(), input="features", target="lable")


def test_tuples_arrays_and_images_are_taken_as_they_are():
    pairs = [(Image.new("L", (6, 5), shade), shade % 2) for shade in range(20)]
    task = Task.from_dataset(pairs)
    assert task.example(1)["input"].shape == (1, 1, 5, 6)
    triples = TensorDataset(torch.rand(20, 3), torch.rand(20, 2), torch.rand(20))
    both = Task.from_dataset(triples, triples, triples)
    assert list(both.example()) == ["input0", "input1"] and both.metric == "mse"
    parts = Task.from_dataset({"train": pairs, "test": pairs[:6]}, seed=1)
    assert [len(split) for split in parts.splits().values()] == [18, 2, 6]


def test_a_large_data_set_is_read_batch_by_batch(monkeypatch):
    monkeypatch.setattr(datasets, "IN_MEMORY", 100)
    task = Task.from_dataset(Dicts(), input="features")
    assert isinstance(task.train, LoaderSplit)
    small = Task.from_dataset(Dicts(4), Dicts(4), Dicts(4), input="features")
    assert isinstance(small.train, TensorSplit)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (iter([1]), "no length"),
        ([], "empty"),
        ([5, 6, 7], "expected a pair"),
        ([(torch.rand(2), 0), (torch.rand(3), 1)] * 10, r"shapes \[.\] and \[.\]"),
        ({"valid": []}, "no split named 'train'"),
        ([(torch.rand(2), 0)], "too few"),
        (DataLoader([(torch.rand(2), 0)] * 20), "no length or no items"),
    ],
)
def test_what_is_no_data_set_is_said(data, message):
    with pytest.raises(DataError, match=message):
        Task.from_dataset(data)
