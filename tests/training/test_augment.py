"""Augmentation: each operation is checked against what defines it, not against stored pictures."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.core.errors import RecipeError
from compress.tasks import Task
from compress.training.augment import augment, check_augment, crop, cutout, flip, mixup, soft_targets
from compress.training.settings import AugmentConfig

shapes = st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(2, 9), st.integers(2, 9))
quick = settings(max_examples=25, deadline=None)


def images_of(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@quick
@given(shapes, st.integers(0, 99))
def test_flip_twice_is_identity_and_touches_only_the_mask(shape, seed):
    images = images_of(shape, seed)
    mask = torch.rand(shape[0], generator=torch.Generator().manual_seed(seed)) < 0.5
    once = flip(images, mask)
    assert torch.equal(flip(once, mask), images)
    assert torch.equal(once[~mask], images[~mask])
    assert torch.equal(once[mask], images[mask].flip(-1))


@quick
@given(shapes, st.integers(1, 3), st.data())
def test_crop_shifts_the_picture_and_fills_with_zeros(shape, pad, data):
    images = images_of(shape)
    n, _, height, width = shape
    top, left = (torch.tensor([data.draw(st.integers(0, 2 * pad)) for _ in range(n)]) for _ in range(2))
    out = crop(images, pad, top, left)
    assert out.shape == images.shape
    for i in range(n):
        for y in range(height):
            for x in range(width):
                yy, xx = y + int(top[i]) - pad, x + int(left[i]) - pad
                inside = 0 <= yy < height and 0 <= xx < width
                assert torch.equal(out[i, :, y, x], images[i, :, yy, xx] if inside else torch.zeros(shape[1]))


def test_crop_in_the_middle_is_identity():
    images = images_of((4, 3, 8, 8))
    middle = torch.full((4,), 2)
    assert torch.equal(crop(images, 2, middle, middle), images)


@quick
@given(shapes, st.integers(1, 5), st.floats(0, 0.999), st.floats(0, 0.999))
def test_cutout_sets_one_square_of_at_most_its_side_to_zero(shape, side, y, x):
    n, channels, height, width = shape
    images = torch.ones(shape)
    out = cutout(images, side, torch.full((n,), y), torch.full((n,), x))
    gone = out[0, 0] == 0
    rows, columns = gone.any(1).sum().item(), gone.any(0).sum().item()
    assert gone.sum().item() == rows * columns
    assert min(height, (side + 1) // 2) <= rows <= side and min(width, (side + 1) // 2) <= columns <= side
    assert torch.equal(out == 0, gone.expand(n, channels, height, width))


@quick
@given(shapes, st.integers(0, 99))
def test_mixup_lies_between_the_two_and_shares_add_up(shape, seed):
    images = images_of(shape, seed)
    n = shape[0]
    draw = torch.Generator().manual_seed(seed)
    share, partner = torch.rand(n, generator=draw), torch.randperm(n, generator=draw)
    targets = soft_targets(torch.arange(n) % 3, 3)
    mixed, shares = mixup(images, targets, share, partner)
    low, high = torch.minimum(images, images[partner]), torch.maximum(images, images[partner])
    assert ((mixed >= low - 1e-5) & (mixed <= high + 1e-5)).all()
    torch.testing.assert_close(shares.sum(1), torch.ones(n))
    own, _ = mixup(images, targets, torch.ones(n), partner)
    assert torch.equal(own, images)


EVERYTHING = AugmentConfig(flip=True, crop=2, cutout=3, mixup=0.4)


def run(seed, config=EVERYTHING, n=16):
    draw = torch.Generator().manual_seed(seed)
    return augment({"image": images_of((n, 3, 8, 8))}, torch.arange(n) % 4, config, draw, 4)


def test_the_same_seed_gives_the_same_batch_and_another_seed_another():
    first, again, other = run(1), run(1), run(2)
    assert torch.equal(first.inputs["image"], again.inputs["image"])
    assert torch.equal(first.targets, again.targets)
    assert not torch.equal(first.inputs["image"], other.inputs["image"])


def test_the_callers_batch_is_not_changed():
    images = images_of((8, 3, 8, 8))
    kept = images.clone()
    augment({"image": images}, torch.zeros(8).long(), EVERYTHING, torch.Generator().manual_seed(0), 2)
    assert torch.equal(images, kept)


def test_flips_are_reported_and_hit_about_half():
    done = run(0, AugmentConfig(flip=True), n=400)
    original = images_of((400, 3, 8, 8))
    assert torch.equal(done.inputs["image"], flip(original, done.flipped))
    assert 150 < int(done.flipped.sum()) < 250
    assert done.targets.dtype == torch.int64


def test_every_shift_of_a_crop_is_drawn():
    marks = torch.zeros(600, 1, 5, 5)
    marks[:, :, 2, 2] = 1
    draw = torch.Generator().manual_seed(0)
    out = augment({"image": marks}, torch.zeros(600).long(), AugmentConfig(crop=1), draw, 2).inputs["image"]
    places = {tuple(p.tolist()) for p in out[:, 0].nonzero()[:, 1:]}
    assert places == {(y, x) for y in (1, 2, 3) for x in (1, 2, 3)}


def tensors_task(shape, loss=None):
    pair = (torch.randn(6, *shape), torch.tensor([0, 1, 0, 1, 0, 1]))
    return Task.from_tensors(pair, pair, pair, loss=loss)


@pytest.mark.parametrize(
    ("shape", "config", "loss", "words"),
    [
        ((4,), AugmentConfig(flip=True), None, "need images"),
        ((1, 4, 4), AugmentConfig(crop=5), None, "must fit"),
        ((1, 4, 4), AugmentConfig(cutout=5), None, "must fit"),
        ((1, 4, 4), AugmentConfig(mixup=0.2), lambda a, b: a.sum(), "mixup blends targets"),
    ],
)
def test_augmentation_that_does_not_fit_the_task_is_refused(shape, config, loss, words):
    with pytest.raises(RecipeError, match=words):
        check_augment(config, tensors_task(shape, loss))


def test_augmentation_that_fits_is_accepted():
    check_augment(EVERYTHING, tensors_task((3, 8, 8)))
    check_augment(AugmentConfig(mixup=0.2), tensors_task((4,)))
    check_augment(AugmentConfig(), tensors_task((4,)))
