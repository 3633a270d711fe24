"""One split of a data set, in memory or behind a DataLoader, seen as batches of (inputs by name, targets).

Subsets are seeded and keep the share of every class.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compress.core.seeding import generator, seeded
from compress.tasks.checks import as_inputs, as_targets, check_finite, check_lengths
from compress.tasks.heads import packed
from evaluate.core.errors import DataError
from evaluate.core.text import a_few

Batch: TypeAlias = tuple[dict[str, Tensor], Tensor]


@dataclass(frozen=True)
class Normalize:
    """(x - mean) / std by channel, for images (n, c, h, w) kept as uint8; mean and std are in units of 0..255."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 (n, c, h, w) -> float32 of the same shape."""
        shape = (1, -1, 1, 1)
        factor = torch.tensor([1 / s for s in self.std], device=images.device).view(shape)
        offset = torch.tensor([-m / s for m, s in zip(self.mean, self.std, strict=True)], device=images.device)
        return images.float().mul_(factor).add_(offset.view(shape))


@dataclass(frozen=True, eq=False)
class TensorSplit:
    """Samples in memory. `inputs` maps names, in the order of the model's arguments, to (n, ...) tensors.

    `targets` are (n, ...) int64 class ids or float32. Where `normalize` is given the inputs are stored as uint8
    images; `batches` yields what the model sees.
    """

    inputs: dict[str, Tensor]
    targets: Tensor
    normalize: Normalize | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def steps(self, size: int) -> int:
        """Number of batches of `size` samples."""
        return -(-len(self) // size)

    def batches(self, size: int, order: Tensor | None = None, device: str = "cpu") -> Iterator[Batch]:
        """Batches of at most `size` samples on `device`, as stored or in the order of the indices `order` (int64)."""
        count = len(self) if order is None else len(order)
        for start in range(0, count, size):
            part = slice(start, start + size) if order is None else order[start : start + size]
            inputs = {name: self._seen(tensor[part].to(device)) for name, tensor in self.inputs.items()}
            yield inputs, self.targets[part].to(device)

    def _seen(self, tensor: Tensor) -> Tensor:
        return self.normalize(tensor) if self.normalize is not None and tensor.dtype == torch.uint8 else tensor

    def select(self, indices: Tensor) -> TensorSplit:
        """The samples of these indices (int64)."""
        return replace(self, inputs={k: v[indices] for k, v in self.inputs.items()}, targets=self.targets[indices])

    def take(self, n: int, seed: int) -> TensorSplit:
        """A seeded subset of `n` samples in stored order, keeping the share of each class; all where n >= len."""
        return self if n >= len(self) else self.select(subset_indices(self.targets, n, seed))

    def materialize(self) -> TensorSplit:
        """The same split with its inputs as the model sees them, in memory."""
        if self.normalize is None:
            return self
        return TensorSplit({name: self._seen(tensor) for name, tensor in self.inputs.items()}, self.targets)

    def check(self, where: str) -> None:
        """Raise DataError unless there are samples, of equal number everywhere, and all values are finite."""
        check_lengths(self.inputs, self.targets, where)
        for name, tensor in self.inputs.items():
            check_finite(tensor, f"{where} input {name!r}")
        check_finite(self.targets, f"{where} targets")

    def all_targets(self) -> Tensor:
        """(n, ...) targets of every sample."""
        return self.targets

    def first(self, n: int) -> dict[str, Tensor]:
        """Inputs of the first `n` samples, as the model sees them."""
        inputs, _ = next(self.batches(n))
        return inputs

    @cached_property
    def _digest(self) -> str:
        digest = hashlib.sha256(repr(self.normalize).encode())
        for name, tensor in (*self.inputs.items(), ("targets", self.targets)):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()

    def fingerprint(self) -> str:
        """sha256 (hex) over names, dtypes, shapes and content; computed once."""
        return self._digest

    def rows(self) -> NDArray[np.uint64]:
        """(n,) 64-bit hashes of each sample's inputs as they are stored."""
        arrays = [tensor.contiguous().numpy() for tensor in self.inputs.values()]
        return np.array([_row([array[n].tobytes() for array in arrays]) for n in range(len(self))], np.uint64)


@dataclass(frozen=True)
class _Scan:
    """What one pass over a loader finds out."""

    batches: int
    targets: Tensor
    fingerprint: str
    rows: NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class LoaderSplit:
    """A re-iterable DataLoader of (inputs, targets) batches; it is read batch by batch and never held in memory.

    `inputs` of a batch may be a tensor, a tuple of tensors or a dict of them; targets are as in TensorSplit. Shuffling
    and random transforms must draw from torch's, numpy's or Python's global generators to be repeatable.
    """

    loader: Iterable[Any]
    where: str = "loader"

    def __len__(self) -> int:
        return len(self._scan.targets)

    def steps(self, size: int) -> int:
        """Number of batches in one pass; `size` is the loader's own affair."""
        return self._scan.batches

    def batches(self, size: int = 0, order: Tensor | None = None, device: str = "cpu") -> Iterator[Batch]:
        """The loader's batches on `device`; `size` is not used. Raises DataError for an `order` or a bad batch."""
        if order is not None:
            raise DataError(f"{self.where}: a DataLoader keeps its own order; none can be given.")
        _reseed(self.loader)
        for batch in self.loader:
            inputs, targets = _parts(batch, self.where)
            check_lengths(inputs, targets, self.where)
            for name, tensor in inputs.items():
                check_finite(tensor, f"{self.where} input {name!r}")
            yield {name: tensor.to(device) for name, tensor in inputs.items()}, targets.to(device)

    def take(self, n: int, seed: int) -> TensorSplit:
        """A seeded subset of `n` samples in memory, keeping the share of each class; two passes over the loader."""
        wanted = subset_indices(self._scan.targets, n, seed)
        start, parts = 0, []
        with seeded(0):
            for inputs, targets in self.batches():
                inside = wanted[(wanted >= start) & (wanted < start + len(targets))] - start
                parts.append(({name: tensor[inside] for name, tensor in inputs.items()}, targets[inside]))
                start += len(targets)
        inputs = {name: torch.cat([part[name] for part, _ in parts]) for name in parts[0][0]}
        return TensorSplit(inputs, torch.cat([targets for _, targets in parts]))

    def check(self, where: str) -> None:
        """Read everything once. Raises DataError for an empty loader or an unusable batch."""
        if len(self) == 0:
            raise DataError(f"{where}: the loader gives no samples. Every split needs at least one.")
        check_finite(self._scan.targets, f"{where} targets")

    def all_targets(self) -> Tensor:
        """(n, ...) targets of every sample, in the order of a pass seeded with 0."""
        return self._scan.targets

    def first_targets(self) -> Any:
        """The targets of the first batch as the loader gives them: a dict where there are several heads."""
        with seeded(0):
            _reseed(self.loader)
            batch = next(iter(self.loader), None)
        return batch[-1] if isinstance(batch, tuple | list) and len(batch) > 1 else None

    def first(self, n: int) -> dict[str, Tensor]:
        """Inputs of the first `n` samples of the first batch, in a pass seeded with 0."""
        with seeded(0):
            for inputs, _ in self.batches():
                return {name: tensor[:n] for name, tensor in inputs.items()}
        raise DataError(f"{self.where}: the loader gives no batches.")

    def fingerprint(self) -> str:
        """sha256-based hex digest over the samples, whatever their order; computed once."""
        return self._scan.fingerprint

    def rows(self) -> NDArray[np.uint64]:
        """(n,) 64-bit hashes of each sample's inputs, in a pass seeded with 0."""
        return self._scan.rows

    @cached_property
    def _scan(self) -> _Scan:
        # What stays is copied into buffers that grow: a small tensor kept of each batch would keep the batch's memory.
        count, total, shapes, targets, rows = 0, 0, dict[str, tuple[int, ...]](), bytearray(), array("Q")
        kinds: list[tuple[torch.dtype, torch.Size]] = []
        with seeded(0):
            for inputs, labels in self.batches():
                found = {name: tuple(tensor.shape[1:]) for name, tensor in inputs.items()}
                if found != (shapes := shapes or found):
                    raise _sizes_differ(self.where, count, shapes, found)
                count += 1
                digests = list(_sample_digests(inputs, labels))
                total += sum(whole for whole, _ in digests)
                rows.extend(row for _, row in digests)
                kinds = kinds or [(labels.dtype, labels.shape[1:])]
                if (labels.dtype, labels.shape[1:]) != kinds[0]:
                    first, own = (
                        f"{str(d)[6:]} {list(shape)}" for d, shape in (*kinds, (labels.dtype, labels.shape[1:]))
                    )
                    raise DataError(
                        f"{self.where}: targets are {own} a sample in batch {count - 1}, {first} in the first."
                    )
                targets += labels.contiguous().numpy().tobytes()
        joined = torch.frombuffer(targets, dtype=kinds[0][0]).reshape(-1, *kinds[0][1]) if targets else torch.empty(0)
        return _Scan(count, joined, f"{total % 2**256:064x}", np.array(rows, np.uint64))


def _sizes_differ(where: str, batch: int, first: Mapping[str, Any], found: Mapping[str, Any]) -> DataError:
    name = next((n for n in first if found.get(n) != first[n]), "")
    if found.keys() != first.keys():
        return DataError(f"{where}: batch {batch} has inputs {a_few(list(found))}, the first {a_few(list(first))}.")
    return DataError(
        f"{where}: samples of input {name!r} have shape {list(first[name])} in the first batch and {list(found[name])} "
        f"in batch {batch}: an exported file takes one. Resize, crop or pad them to one shape in the data set or in "
        "collate_fn (images: transforms.Resize; texts: padding='max_length')."
    )


Split: TypeAlias = TensorSplit | LoaderSplit


def _row(inputs: Iterable[bytes]) -> int:
    return int.from_bytes(hashlib.blake2b(b"".join(inputs), digest_size=8).digest(), "big")


def _sample_digests(inputs: Mapping[str, Tensor], targets: Tensor) -> Iterator[tuple[int, int]]:
    """Of each sample (a hash of inputs and target, a hash of its inputs alone)."""
    arrays = [tensor.contiguous().numpy() for tensor in (*inputs.values(), targets)]
    for index in range(len(targets)):
        parts = [array[index].tobytes() for array in arrays]
        yield int.from_bytes(hashlib.sha256(b"".join(parts)).digest(), "big"), _row(parts[:-1])


def _reseed(loader: Iterable[Any]) -> None:
    """Tie generators of the loader's own to torch's global one, so that seeding that one is enough."""
    owners = (loader, getattr(loader, "sampler", None))
    own = {id(g): g for g in (getattr(owner, "generator", None) for owner in owners) if isinstance(g, torch.Generator)}
    for own_generator in own.values():
        own_generator.manual_seed(int(torch.randint(2**62, ())))


def _parts(batch: Any, where: str) -> Batch:
    if not isinstance(batch, tuple | list) or len(batch) < 2:
        got = f"{type(batch).__name__}{f' of {len(batch)}' if isinstance(batch, tuple | list) else ''}"
        raise DataError(f"{where}: expected batches of (inputs, targets), got {got}. Wrap the loader to yield pairs.")
    inputs = batch[0] if len(batch) == 2 else tuple(batch[:-1])
    if isinstance(inputs, tuple | list):
        inputs = {f"input{index}": item for index, item in enumerate(inputs)}
    targets = packed(batch[-1], where) if isinstance(batch[-1], Mapping) else as_targets(batch[-1], where)
    return as_inputs(inputs, where), targets


def subset_indices(targets: Tensor, n: int, seed: int) -> Tensor:
    """Sorted indices (int64) of `n` samples, drawn without replacement; all of them where n >= len(targets).

    Where targets are class ids, each class gets its share of n, rounded by the largest remainder.
    """
    total = len(targets)
    if n >= total:
        return torch.arange(total)
    draw = generator(seed, "subset")
    if targets.is_floating_point() or targets.ndim != 1:
        return torch.randperm(total, generator=draw)[:n].sort().values
    order = torch.randperm(total, generator=draw)
    counts = torch.bincount(targets - targets.min())
    by_class = order[targets[order].argsort(stable=True)]
    starts = counts.cumsum(0) - counts
    chosen = [by_class[a : a + share] for a, share in zip(starts.tolist(), _shares(counts, n), strict=True)]
    return torch.cat(chosen).sort().values


def split_indices(targets: Tensor, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """(the other samples, `n` held-out samples), both sorted, the held-out ones drawn by `subset_indices`."""
    held = subset_indices(targets, n, seed)
    rest = torch.ones(len(targets), dtype=torch.bool)
    rest[held] = False
    return rest.nonzero().flatten(), held


def _shares(counts: Tensor, n: int) -> list[int]:
    exact = counts.double() * n / counts.sum()
    shares = exact.floor().long()
    spare = (exact - shares).argsort(descending=True, stable=True)[: n - int(shares.sum())]
    shares[spare] += 1
    return [int(share) for share in shares]
