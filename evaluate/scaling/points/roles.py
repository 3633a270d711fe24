"""What a column is, by its name: a size, an amount of data, a density ... Laws say which of these they are for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from evaluate.scaling.points.cells import names_of

ROLES = {
    "size": "n params parameters nonzero weights macs flops bytes size n_params model_size",
    "data": "d tokens samples data examples n_train n_data train_samples dataset_size",
    "density": "density kept keep retained remaining",
    "sparsity": "sparsity pruned removed",
    "bits": "bits bit w_bits weight_bits bit_width bitwidth precision",
    "group": "group group_size groupsize g",
    "width": "width w channels hidden d_model",
    "depth": "depth layers l n_layers hidden_layers",
    "level": "level kind method format",
}
"""Role -> the names of columns that have it, in small letters."""
_ROLE_OF = {word: role for role, words in ROLES.items() for word in words.split()}


def role(name: str) -> str:
    """The role of a column by its name, whatever unit stands behind it ("density (%)"); empty where none is known."""
    bare = re.split(r"[\s,(\[]", name.strip().lower(), maxsplit=1)[0]
    return _ROLE_OF.get(bare, "")


def roles(names: Iterable[str]) -> tuple[str, ...]:
    """The roles of columns, in the order of their names."""
    return tuple(map(role, names))


def suits(names: Sequence[str], wanted: Sequence[tuple[str, ...]]) -> tuple[str, ...] | None:
    """The names in the order of the first of the wanted roles that are these columns' in some order; None without."""
    by_role = {role(name): name for name in names}
    found = next((each for each in wanted if sorted(each) == sorted(map(role, names))), None)
    return None if found is None else tuple(by_role[one] for one in found)


def in_order(x: Any, wanted: Sequence[tuple[str, ...]]) -> Any:
    """x with its columns in the order of the wanted roles, where they have names that say which is which."""
    order = suits(names_of(x) or (), wanted)
    if order is None:
        return x
    return {name: x[name] for name in order} if isinstance(x, Mapping) else x[list(order)]
