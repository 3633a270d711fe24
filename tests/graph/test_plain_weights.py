"""Weight norm is taken off before pruning; other parametrizations, which may be promises, stay."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils.parametrizations import orthogonal, weight_norm
from torch.nn.utils.parametrize import is_parametrized

from compress.graph.plain_weights import PlainWeights


def test_weight_norm_is_taken_off_a_copy_and_the_other_stays_whole():
    torch.manual_seed(0)
    model = nn.Sequential(weight_norm(nn.Conv1d(3, 8, 3)), orthogonal(nn.Linear(6, 6)), nn.Linear(6, 2)).eval()
    x = torch.randn(4, 3, 8)
    before = model(x)
    copied = copy.deepcopy(model)
    done = PlainWeights.apply(copied, {"input": x})
    assert [rewrite.layer for rewrite in done] == ["0"]
    assert type(copied[0]) is nn.Conv1d and is_parametrized(copied[1]) and is_parametrized(model[0])
    torch.testing.assert_close(copied(x), before)
    torch.testing.assert_close(model(x), before)
    assert sorted(dict(copied[0].named_parameters())) == ["bias", "weight"]
    done[0].rebuild(copied)
    torch.testing.assert_close(copied(x), before)
