"""How a network is called: inputs by name, outputs by name, nothing of the user's changed; and copies of networks."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from compress.core.forward import call, copy_model, flattened, run_model
from compress.graph.export import check_parity, export_onnx
from compress.graph.onnx_graph import serialise
from evaluate.core.errors import ModelError
from evaluate.runtime.session import open_session

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


class Named(nn.Module):
    """Three inputs, as BERT takes them."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.kinds, self.head = nn.Embedding(50, 16), nn.Embedding(2, 16), nn.Linear(16, 4)

    def forward(self, input_ids, attention_mask, token_type_ids=None):
        found = self.words(input_ids)
        if token_type_ids is not None:
            found = found + self.kinds(token_type_ids)
        return self.head((found * attention_mask[..., None]).sum(1))


IDS = {
    "input_ids": torch.randint(0, 50, (4, 6), generator=torch.Generator().manual_seed(1)),
    "token_type_ids": torch.zeros(4, 6, dtype=torch.long),
    "attention_mask": torch.ones(4, 6, dtype=torch.long),
}


def test_inputs_are_bound_by_name_in_whatever_order_they_come():
    model = Named()
    assert torch.equal(run_model(model, IDS), model(**IDS))
    fewer = {name: IDS[name] for name in ("attention_mask", "input_ids")}
    assert torch.equal(run_model(model, fewer), model(**fewer))


@pytest.mark.parametrize("names", [("ids", "mask"), ("input_ids", "mask")])
def test_names_that_fit_nothing_are_refused(names):
    given = dict(zip(names, (IDS["input_ids"], IDS["attention_mask"]), strict=True))
    with pytest.raises(ModelError, match=r"has no argument .*'mask'.* it takes input_ids, attention_mask"):
        call(Named(), given)


def test_a_single_input_and_those_of_tuples_are_bound_in_order():
    model = nn.Linear(6, 3)
    assert torch.equal(run_model(model, {"image": X}), model(X))
    pair = nn.Bilinear(6, 6, 2)
    assert torch.equal(run_model(pair, {"input0": X, "input1": X + 1}), pair(X, X + 1))


class Giving(nn.Module):
    """Gives two tensors in whatever `form` makes of them."""

    def __init__(self, form) -> None:
        super().__init__()
        self.body, self.head, self.form = nn.Linear(6, 8), nn.Linear(8, 3), form

    def forward(self, x):
        hidden = self.body(x)
        return self.form(self.head(hidden), hidden)


Pair = namedtuple("Pair", "logits hidden")


@dataclass
class Output:
    logits: torch.Tensor
    hidden: torch.Tensor
    loss: torch.Tensor | None = None


FORMS = {
    "dict": lambda logits, hidden: {"hidden": hidden, "logits": logits, "loss": logits.sum()},
    "named tuple": Pair,
    "dataclass": Output,
    "nested": lambda logits, hidden: {"logits": logits, "hidden": (hidden, hidden.T)},
}


@pytest.mark.parametrize("form", FORMS)
def test_outputs_have_names_and_the_judged_one_comes_first(form):
    model = Giving(FORMS[form])
    found = call(model, {"x": X})
    names = ["logits", "hidden_0"] if form == "nested" else ["logits", "hidden"]
    assert list(found) == names
    assert torch.equal(found["logits"], model.head(model.body(X)))


@pytest.mark.parametrize("form", FORMS)
def test_the_file_keeps_every_output_by_name(form):
    model = Giving(FORMS[form]).eval()
    data = serialise(export_onnx(model, {"x": X[:2]}))
    assert check_parity(model, data, {"x": X}).relative < 1e-5
    session = open_session(data, threads=1)
    assert [name for name, *_ in session.outputs] == list(call(model, {"x": X}))


def test_a_tuple_is_judged_only_by_an_output_that_was_named():
    model = Giving(lambda logits, hidden: (hidden, logits))
    with pytest.raises(ModelError, match=r"several outputs.*output0 \(4, 8\), output1 \(4, 3\).*output="):
        call(model, {"x": X})
    model.leanfit_output = "output1"
    assert list(call(model, {"x": X})) == ["output1", "output0"]
    model.leanfit_output = "output7"
    with pytest.raises(ModelError, match="no output 'output7'"):
        call(model, {"x": X})


@pytest.mark.parametrize("form", [lambda a, b: None, lambda a, b: a.sum(), lambda a, b: a[:1], lambda a, b: "text"])
def test_what_has_no_row_a_sample_is_refused(form):
    with pytest.raises(ModelError, match="row a sample"):
        call(Giving(form), {"x": X})


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x -= 0.5
        x /= 0.3
        return self.head(x)


def test_what_forward_does_to_its_input_stays_there_and_is_exported():
    model, before = InPlace().eval(), X.clone()
    data = serialise(export_onnx(model, {"x": X[:2]}))
    assert check_parity(model, data, {"x": X}).relative < 1e-5
    assert torch.equal(X, before)


def test_a_network_that_cannot_run_is_said_when_it_is_exported_too():
    with pytest.raises(ModelError, match=r"cannot run on the task's inputs \(x \(2, 6\) float32\)"):
        export_onnx(nn.Linear(5, 3), {"x": X[:2]})


def test_a_plain_network_is_traced_as_it_is():
    model = nn.Sequential(nn.Linear(6, 3))
    flat, names = flattened(model, {"x": X})
    assert type(flat) is nn.Sequential
    assert names == ("output",)


def test_old_weight_norm_is_copied_after_a_forward():
    with pytest.warns(FutureWarning):
        model = nn.Sequential(nn.utils.weight_norm(nn.Linear(6, 3)))
    wanted = model(X)
    wanted.sum().backward()
    assert torch.equal(copy_model(model)(X), wanted)


def test_a_network_without_weights_yet_and_one_that_cannot_be_copied_say_what_to_do():
    lazy = nn.Sequential(nn.LazyLinear(3))
    with pytest.raises(ModelError, match=r"no weights yet in 0.weight, 0.bias.*one batch"):
        copy_model(lazy)
    model = nn.Linear(6, 3)
    model.reader = (n for n in range(3))
    with pytest.raises(ModelError, match=r"cannot be copied.*before handing it in"):
        copy_model(model)
