"""Learning-rate schedules, and the settings of training."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError
from tiny_training import EVERYTHING

from compress.training.schedules import rate_factor
from compress.training.settings import AugmentConfig, DistillConfig, RecoverConfig, ScheduleConfig, TrainConfig

KINDS = ("constant", "cosine", "linear", "exponential", "step", "inverse_time", "one_cycle")


def factors(config, steps=100, epoch_steps=10):
    return [rate_factor(config, step, steps, epoch_steps) for step in range(steps)]


def schedule(kind, **kwargs):
    return ScheduleConfig(kind=kind, **{**({"final": 0.01} if kind == "exponential" else {}), **kwargs})


@pytest.mark.parametrize("kind", KINDS)
def test_every_schedule_stays_within_its_peak_and_reaches_it(kind):
    values = factors(schedule(kind))
    assert max(values) == pytest.approx(1.0, abs=1e-3) and min(values) > 0
    after = values[values.index(max(values)) :]
    assert after == sorted(after, reverse=True)


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "one_cycle"])
def test_warm_up_rises_linearly_to_the_peak(kind):
    by_epochs = factors(schedule(kind, warmup_epochs=2))
    assert by_epochs[:20] == pytest.approx([(i + 1) / 20 for i in range(20)])
    assert by_epochs == factors(schedule(kind, warmup_fraction=0.2))
    assert by_epochs[20] == pytest.approx(1.0)


def test_schedules_follow_their_formulas():
    assert set(factors(schedule("constant"))) == {1.0}
    assert factors(schedule("cosine", final=0.2))[50] == pytest.approx(0.6)
    assert factors(schedule("linear", final=0.5))[50] == pytest.approx(0.75)
    assert factors(schedule("exponential", final=0.01))[50] == pytest.approx(0.1)
    assert factors(schedule("inverse_time", rate=0.5))[40] == pytest.approx(1 / (1 + 0.5 * 4))
    steps = factors(schedule("step", milestones=(0.5, 0.75), gamma=0.1))
    assert [steps[i] for i in (49, 50, 74, 75)] == pytest.approx([1, 0.1, 0.1, 0.01])
    cycle = factors(schedule("one_cycle", peak_at=0.3, start=0.04, final=0.1))
    assert cycle[0] == pytest.approx(0.04) and cycle[30] == 1.0 and cycle[65] == pytest.approx(0.55)


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        ("cosine", {"rate": 0.5}, "rate has no effect on a cosine schedule"),
        ("exponential", {"final": 0.0}, "give final above 0"),
        ("cosine", {"warmup_epochs": 1, "warmup_fraction": 0.1}, "not both"),
        ("one_cycle", {"warmup_epochs": 1}, "peak_at"),
        ("cosin", {}, "kind"),
        ("step", {"milestones": (1.5,)}, "milestones"),
    ],
)
def test_schedules_that_make_no_sense_are_refused(kind, fields, words):
    with pytest.raises(ValidationError, match=words):
        ScheduleConfig(kind=kind, **fields)


def test_configs_round_trip_and_know_the_optimizers_defaults():
    for config in (
        TrainConfig(),
        TrainConfig(optimizer="adamw"),
        RecoverConfig(distill=DistillConfig()),
        TrainConfig(**EVERYTHING),
    ):
        assert type(config).model_validate(json.loads(config.model_dump_json())) == config
    assert TrainConfig(optimizer="adamw").learning_rate == 0.001
    assert TrainConfig(optimizer="adamw", learning_rate=0.5).learning_rate == 0.5
    with pytest.raises(ValidationError, match="leaves nothing"):
        TrainConfig(epochs=2, schedule=ScheduleConfig(warmup_epochs=2))
    for bad in ({"epochs": 0}, {"learning_rate": -1}, {"momentum": 1.0}, {"epoch": 3}, {"precision": "fp16"}):
        with pytest.raises(ValidationError):
            TrainConfig(**bad)


def test_every_setting_is_described():
    for config in (TrainConfig, RecoverConfig, ScheduleConfig, AugmentConfig, DistillConfig):
        assert all(field.description for field in config.model_fields.values())
