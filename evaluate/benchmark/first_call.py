"""How a model can be run at all: with its outputs bound or without, and with which ids."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from evaluate.benchmark.model_inputs import Feeds
from evaluate.core.errors import ModelError, UsageError
from evaluate.core.text import a_few
from evaluate.runtime.session import Call, Session

CALLS = 3  # what is bound may fail only when it is written to again


@dataclass(frozen=True)
class FirstCall:
    """How a model runs: `zeros` for ids where it refuses seeded ones, `unbound` where its outputs cannot be bound.

    said : what has to be told of that.
    """

    feeds: list[Feeds]
    zeros: bool = False
    unbound: bool = False
    said: tuple[str, ...] = ()


def bound_in_turn(session: Session, feeds: Sequence[Feeds]) -> Call:
    """One call that feeds each in turn, on copies of its own; nothing is run yet."""
    if len(feeds) > 1 and session.graphs:
        raise UsageError("CUDA graphs replay one set of inputs, and several were given: leave --graphs out")
    copies = [{name: v if isinstance(v, list) else v.copy() for name, v in each.items()} for each in feeds]
    calls = [session.bind(each, try_once=False) for each in copies]
    if len(calls) == 1:
        return calls[0]
    following = itertools.cycle(calls).__next__
    return lambda: following()()


def first_call(session: Session, feeds_of: Callable[[bool], list[Feeds]], seeded: Collection[str]) -> FirstCall:
    """Run a model a few times, in the way in which it runs.

    feeds_of : its inputs, with zeros for seeded integers or not.
    seeded   : the inputs that seeded values fill.
    Raises ModelError where it runs in no way, and what `feeds_of` raises.
    """
    feeds = feeds_of(False)
    failed = _failure(session, feeds)
    if failed is None:
        return FirstCall(feeds)
    if "Invalid rank for output" in str(failed) and not session.graphs:
        for each in feeds:
            session.run(each)
        why = "an output has another number of dimensions than the file says, so that it cannot be bound"
        told = f"{session.label}: {why}: measured by run(), which makes new outputs"
        return FirstCall(feeds, unbound=True, said=(told,))
    ids = [port.name for port in session.inputs if port.dtype.startswith(("int", "uint")) and port.name in seeded]
    if not ids:
        raise failed
    feeds = feeds_of(True)
    if _failure(session, feeds) is not None:
        raise ModelError(f"{failed} Give values of {a_few(ids)} that it takes by --inputs FILE.") from failed
    told = f"{session.label}: it refused seeded values of {a_few(ids)}: measured with 0; --inputs FILE gives others"
    return FirstCall(feeds, zeros=True, said=(told,))


def _failure(session: Session, feeds: list[Feeds]) -> ModelError | None:
    try:
        call = bound_in_turn(session, feeds)
        with session.explained(feeds[0]):
            for _ in range(max(CALLS, len(feeds))):
                call()
    except ModelError as error:
        return error
    return None
