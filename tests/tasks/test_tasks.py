"""Tasks in memory and behind loaders: splits, fingerprints, and what is refused."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from compress.core.errors import RecipeError
from compress.tasks import LoaderSplit, Normalize, Task, TensorSplit, check_task, get_task, task_names
from compress.tasks.splits import split_indices, subset_indices
from evaluate.core.errors import DataError


def pair(n=30, classes=3, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(n, 4, generator=draw), torch.arange(n) % classes


def task(**kwargs):
    return Task.from_tensors(pair(60), None, pair(30, seed=1), **kwargs)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.integers(1, 90), st.integers(0, 9))
def test_subset_has_n_distinct_samples_and_each_class_its_share(labels, n, seed):
    targets = torch.tensor(labels)
    chosen = subset_indices(targets, n, seed)
    assert len(chosen.unique()) == len(chosen) == min(n, len(targets))
    share = len(chosen) / len(targets)
    for c in targets.unique():
        exact = share * int((targets == c).sum())
        assert abs(int((targets[chosen] == c).sum()) - exact) < 1
    assert torch.equal(chosen, subset_indices(targets, n, seed))


def test_split_indices_are_disjoint_and_complete_and_follow_the_seed():
    targets = torch.arange(100) % 5
    rest, held = split_indices(targets, 20, 0)
    assert sorted(torch.cat([rest, held]).tolist()) == list(range(100))
    assert not torch.equal(held, split_indices(targets, 20, 1)[1])


def test_batches_cover_the_split_in_the_order_asked_for():
    x, y = pair(10)
    split = TensorSplit({"a": x, "b": x * 2}, y)
    order = torch.randperm(10)
    parts = list(split.batches(4, order))
    assert [len(t) for _, t in parts] == [4, 4, 2] and split.steps(4) == 3
    assert torch.equal(torch.cat([inputs["b"] for inputs, _ in parts]), x[order] * 2)
    assert torch.equal(torch.cat([t for _, t in split.batches(4)]), y)
    assert list(parts[0][0]) == ["a", "b"]


def test_normalized_split_stores_bytes_and_shows_floats():
    images = torch.randint(0, 256, (5, 2, 3, 3), dtype=torch.uint8)
    scale = Normalize((10.0, 20.0), (2.0, 4.0))
    split = TensorSplit({"image": images}, torch.zeros(5).long(), scale)
    seen = next(split.batches(5))[0]["image"]
    expected = (images.float() - torch.tensor([10.0, 20.0]).view(1, 2, 1, 1)) / torch.tensor([2.0, 4.0]).view(
        1, 2, 1, 1
    )
    torch.testing.assert_close(seen, expected)
    assert torch.equal(split.materialize().inputs["image"], seen)
    assert torch.equal(split.first(2)["image"], seen[:2])
    plain = TensorSplit({"image": images}, torch.zeros(5).long(), Normalize((0.0, 0.0), (1.0, 1.0)))
    assert torch.equal(plain.first(5)["image"], images.float())


def test_fingerprint_changes_with_any_content():
    x, y = pair()
    base = TensorSplit({"a": x}, y)
    changed = x.clone()
    changed[3, 1] += 1e-6
    others = [
        TensorSplit({"a": changed}, y),
        TensorSplit({"b": x}, y),
        TensorSplit({"a": x}, y.flip(0)),
        TensorSplit({"a": x}, y, Normalize((0.0,), (1.0,))),
    ]
    assert base.fingerprint() == TensorSplit({"a": x.clone()}, y.clone()).fingerprint()
    assert len({base.fingerprint(), *(o.fingerprint() for o in others)}) == 5


def test_task_fingerprint_sees_classes_metric_and_every_split():
    same = {task().fingerprint(), task().fingerprint()}
    others = {
        task(seed=1).fingerprint(),
        task(classes=["x", "y", "z"]).fingerprint(),
        Task.from_tensors(pair(60), None, pair(30, seed=2)).fingerprint(),
    }
    assert len(same) == 1 and len(same | others) == 4


def test_from_tensors_splits_validation_off_stratified():
    made = task(validation_fraction=0.2)
    assert [len(s) for s in made.splits().values()] == [48, 12, 30]
    assert torch.bincount(made.validation.targets).tolist() == [4, 4, 4]
    train = {tuple(row.tolist()) for row in made.train.inputs["input"]}
    assert not train & {tuple(row.tolist()) for row in made.validation.inputs["input"]}
    assert made.classes == ("0", "1", "2")
    assert (made.loss, made.metric) == ("cross_entropy", "accuracy")


def test_numpy_arrays_of_any_width_become_float32_and_int64():
    x = np.asfortranarray(np.random.default_rng(0).normal(size=(20, 3)))[::-1]
    x.flags.writeable = False
    y = (np.arange(20) % 2).astype(np.uint8)
    made = Task.from_tensors(({"x": x.astype(">f8")}, y), None, (x, y) and ({"x": x}, y))
    assert made.train.inputs["x"].dtype == torch.float32
    assert made.train.targets.dtype == torch.int64
    np.testing.assert_allclose(made.test.inputs["x"].numpy(), x.astype(np.float32))


def test_regression_needs_no_classes():
    x = torch.randn(20, 3)
    made = Task.from_tensors((x, x.sum(1)), None, (x, x.sum(1)))
    assert (made.loss, made.metric, made.classes) == ("mse", "mse", ())
    assert len(made.validation) == 2


def test_take_keeps_shares_and_calibration_is_seeded():
    made = task()
    taken = made.train.take(12, seed=4)
    assert torch.bincount(taken.targets).tolist() == [4, 4, 4]
    assert made.train.take(1000, seed=0) is made.train
    a, b, c = (made.calibration(9, seed).inputs["input"] for seed in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_example_is_the_first_validation_samples():
    made = task()
    assert torch.equal(made.example(2)["input"], made.validation.inputs["input"][:2])


nan = torch.tensor([[1.0, float("nan")], [1.0, 2.0]])
two = torch.tensor([0, 1])
BROKEN = {
    "nan": ((nan, two), "1 of 2 samples hold NaN or infinite values"),
    "infinite float64": ((np.array([[1e300], [1.0]]), two), "infinite"),
    "lengths": ((torch.ones(3, 2), two), "has 3 samples and the targets have 2"),
    "empty": ((torch.ones(0, 2), torch.ones(0).long()), "no samples"),
    "no values": ((torch.ones(2, 0), two), "samples without values"),
    "labels": ((torch.ones(2, 2), torch.tensor([0, 7])), "class ids run from 0 to 7"),
    "negative": ((torch.ones(2, 2), torch.tensor([-1, 1])), "class ids run from -1"),
    "one-hot": ((torch.ones(2, 2), torch.eye(2).long()), "argmax"),
    "uint8": ((torch.ones(2, 2, dtype=torch.uint8), two), "/ 255"),
    "objects": ((np.array(["a", "b"]), two), "no plain numbers"),
    "complex": ((torch.ones(2, dtype=torch.complex64), two), "real tensor"),
    "list": (([[1.0], [2.0]], two), "got list"),
    "scalar": ((torch.tensor(1.0), two), "single value"),
    "no pair": (torch.ones(2), "expected a pair"),
    "empty dict": (({}, two), "dict of inputs is empty"),
    "float labels": ((torch.ones(2, 2), two.float()), "integer class ids"),
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("where", ["train", "validation", "test"])
def test_unusable_data_is_refused_with_its_place(case, where):
    broken, words = BROKEN[case]
    good = (torch.ones(4, 2), torch.tensor([0, 1, 0, 1]))
    pairs = {"train": good, "validation": good, "test": good, where: broken}
    with pytest.raises(DataError) as caught:
        Task.from_tensors(**pairs, classes=2, name="mine", loss="cross_entropy")
    assert words in str(caught.value) and "'mine'" in str(caught.value)
    assert where in str(caught.value) or case == "float labels"


def test_other_refusals():
    x, y = pair()
    with pytest.raises(DataError, match="at least two classes"):
        Task.from_tensors((x, y * 0), None, (x, y * 0))
    with pytest.raises(DataError, match="did you mean 'accuracy'"):
        Task.from_tensors((x, y), None, (x, y), metric="acuracy")
    with pytest.raises(DataError, match="validation_fraction"):
        Task.from_tensors((x, y), None, (x, y), validation_fraction=1.0)
    with pytest.raises(DataError, match="unlike those of the train split"):
        Task.from_tensors((x, y), None, (x[:, :2], y))
    with pytest.raises(DataError, match="test split is needed"):
        Task.from_tensors((x, y))
    with pytest.raises(DataError, match="repeat"):
        Task.from_tensors((x, y), None, (x, y), classes=["a", "a", "b"])


def loaders(x, y, **kwargs):
    data = TensorDataset(x, y)
    return [DataLoader(data, batch_size=4, **kwargs), DataLoader(data, batch_size=4), DataLoader(data, batch_size=4)]


def test_loaders_give_the_same_task_shuffled_or_not():
    x, y = pair()
    plain = Task.from_loaders(*loaders(x, y))
    shuffled = Task.from_loaders(*loaders(x, y, shuffle=True))
    own = Task.from_loaders(*loaders(x, y, shuffle=True, generator=torch.Generator()))
    assert plain.fingerprint() == shuffled.fingerprint() == own.fingerprint()
    assert plain.fingerprint() != Task.from_loaders(*loaders(x + 1e-6, y)).fingerprint()
    assert (len(plain.train), plain.train.steps(99), plain.classes) == (30, 8, ("0", "1", "2"))


@pytest.mark.parametrize("own", [None, torch.Generator()])
def test_a_loaders_order_follows_torchs_seed(own):
    x, y = pair()
    split = LoaderSplit(loaders(x, y, shuffle=True, generator=own)[0])

    def order(seed):
        torch.manual_seed(seed)
        return torch.cat([inputs["input"] for inputs, _ in split.batches()])

    assert torch.equal(order(1), order(1))
    assert not torch.equal(order(1), order(2))


def test_reading_a_loader_leaves_the_callers_random_state_alone():
    x, y = pair()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    Task.from_loaders(*loaders(x, y, shuffle=True)).train.take(6, 0)
    assert torch.equal(torch.rand(3), expected)


def test_take_from_a_loader_is_stratified_and_seeded():
    x, y = pair()
    split = Task.from_loaders(*loaders(x, y, shuffle=True)).train
    a, b = split.take(9, 0), split.take(9, 0)
    assert torch.equal(a.inputs["input"], b.inputs["input"])
    assert torch.bincount(a.targets).tolist() == [3, 3, 3]
    rows = {tuple(r.tolist()): int(t) for r, t in zip(x, y, strict=True)}
    assert all(rows[tuple(r.tolist())] == int(t) for r, t in zip(a.inputs["input"], a.targets, strict=True))


def test_loaders_may_give_dicts_and_tuples():
    x, y = pair(8)
    batches = [({"ids": x, "mask": x > 0}, y)]
    made = Task.from_loaders(batches, batches, batches)
    assert list(made.example()) == ["ids", "mask"]
    triples = [(x, x * 2, y)]
    assert list(Task.from_loaders(triples, triples, triples).example()) == ["input0", "input1"]


@pytest.mark.parametrize(
    ("batches", "words"),
    [([], "no samples"), ([torch.ones(3)], "pairs"), ([(nan, two)], "NaN"), ([{"x": nan}], "pairs")],
)
def test_unusable_loaders_are_refused(batches, words):
    x, y = pair()
    good = [(x, y)]
    with pytest.raises(DataError, match=words):
        Task.from_loaders(batches, good, good)


def test_an_order_cannot_be_forced_on_a_loader():
    x, y = pair()
    with pytest.raises(DataError, match="own order"):
        next(LoaderSplit([(x, y)]).batches(4, torch.arange(30)))


def test_digits_are_split_once_and_for_all():
    made, again = get_task("digits"), get_task("digits")
    assert [len(s) for s in made.splits().values()] == [1079, 359, 359]
    assert made.fingerprint() == again.fingerprint() != get_task("digits", split_seed=1).fingerprint()
    rows = [{tuple(r.flatten().tolist()) for r in s.inputs["image"]} for s in made.splits().values()]
    assert len(rows[0] | rows[1] | rows[2]) == 1797 and sum(map(len, rows)) == 1797
    assert made.example()["image"].shape == (1, 1, 8, 8)
    assert 0 <= made.train.inputs["image"].min() < made.train.inputs["image"].max() == 1
    counts = torch.bincount(made.test.targets)
    assert counts.max() - counts.min() <= 2


def test_limits_take_a_stratified_part():
    made = get_task("digits", train_limit=50, test_limit=20)
    assert torch.bincount(made.train.targets).min() >= 4 and len(made.train) == 50
    assert (len(made.validation), len(made.test)) == (359, 20)


def test_missing_scikit_learn_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install 'leanfit\[digits\]'"):
        get_task("digits")


def test_task_names_and_arguments():
    assert {"digits", "fashion_mnist", "cifar10"} <= set(task_names())
    assert check_task("cifar10")["normalize"] == "cifar10"
    with pytest.raises(RecipeError, match="did you mean 'digits'"):
        get_task("digit")
    with pytest.raises(RecipeError) as caught:
        get_task("cifar10", normalise="imagenet", test_limit=1)
    assert "did you mean 'normalize'" in str(caught.value) and "test_limit" in str(caught.value)
    with pytest.raises(RecipeError, match="unknown argument 'status'"):
        check_task("cifar10", status=1)


USER_MODULE = '''
import torch
from compress import Task, register_task

@register_task("coins")
def coins(n: int = 10, status=None):
    """Coins."""
    status("tossing", 1, 1)
    x = torch.randn(n, 2)
    return Task.from_tensors((x, torch.arange(n) % 2), None, (x, torch.arange(n) % 2), name="coins")
'''


def test_a_users_task_is_found_by_its_address(tmp_path, monkeypatch):
    (tmp_path / "mypackage_tasks.py").write_text(USER_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    seen = []
    made = get_task("mypackage_tasks:coins", n=20, status=lambda *args: seen.append(args))
    assert (len(made.test), seen) == (20, [("tossing", 1, 1)])
    with pytest.raises(RecipeError, match="registers no task named 'coin'; did you mean 'coins'"):
        get_task("mypackage_tasks:coin")


class Streamed:
    """Batches that are made when they are asked for, as of a set that fits no memory."""

    def __init__(self, batches: int, seed: int, odd: int = -1):
        self.batches, self.seed, self.odd = batches, seed, odd

    def __iter__(self):
        for batch in range(self.batches):
            x = torch.randn(256, 3, 16, 16, generator=torch.Generator().manual_seed(3 * batch + self.seed))
            y = (x.mean((1, 2, 3)) > 0).long()
            yield x, y.float() if batch == self.odd else y


MEMORY = """
import resource, sys
sys.path.insert(0, {here!r})
from test_tasks import Streamed, Task
Task.from_loaders(*[Streamed(4, seed) for seed in range(3)])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
task = Task.from_loaders(Streamed({batches}, 0), Streamed(4, 1), Streamed(4, 2))
task.calibration(64, 0)
print(len(task.train), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_a_loader_is_never_held_in_memory():
    """60 MB of samples; `python benchmarks/streaming.py` has the figure of 600."""
    code = MEMORY.format(here=str(Path(__file__).parent), batches=80)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, megabytes = done.stdout.split()
    assert int(count) == 80 * 256 and float(megabytes) < 25


def test_targets_of_two_types_are_refused():
    with pytest.raises(DataError, match=r"float32 \[\] a sample in batch 2, int64 \[\] in the first"):
        Task.from_loaders(Streamed(4, 0, odd=2), Streamed(4, 1), Streamed(4, 2))
