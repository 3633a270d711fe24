"""What a pass says of itself, so that rules ask what it does and never what it is called."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Traits:
    """What a pass does.

    trains            : it trains the network, on the task's training split.
    reshapes          : it changes shapes or layers of the network.
    writes_graph      : it writes the deployed graph, which is the truth from then on.
    needs_data        : it reads samples of the task.
    keeps_constraints : what must stay true of the weights stays true, although it trains.
    learns_from_original : it learns from the uncompressed model, and so wins back what an earlier pass lost.
    """

    trains: bool = False
    reshapes: bool = False
    writes_graph: bool = False
    needs_data: bool = False
    keeps_constraints: bool = False
    learns_from_original: bool = False
