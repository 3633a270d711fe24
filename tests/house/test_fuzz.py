"""The mutants themselves: as many as asked for, the same each time, all but a few of them wrong somewhere."""

from __future__ import annotations

import copy
import json

from fuzz import byte_mutants, deep, json_mutants, json_of, places

DOCUMENT = {"schema": 1, "hashes": {"model.onnx": "ab" * 32}, "sizes": [{"params": 10, "bits": 8.0}], "name": "mlp"}


def test_json_mutants_are_many_seeded_and_leave_the_document_alone():
    before = copy.deepcopy(DOCUMENT)
    found, again = ([json_of(mutant) for mutant in json_mutants(DOCUMENT, 500, seed=3)] for _ in range(2))
    assert len(found) == 500 and found == again and before == DOCUMENT
    assert len(set(found)) > 300 and sum(one == json_of(DOCUMENT) for one in found) < 50
    assert found != [json_of(mutant) for mutant in json_mutants(DOCUMENT, 500, seed=4)]


def test_json_is_written_as_json_writes_it_and_deeper():
    for mutant in json_mutants(DOCUMENT, 200, seed=5):
        written = json_of(mutant)
        if "[[[" not in written:
            assert json_of(json.loads(written)) == written == json.dumps(mutant, separators=(",", ":"))
    assert json_of(deep(5000)) == "[" * 5000 + "1" + "]" * 5000


def test_every_place_of_a_document_is_reached():
    reached = {path for mutant in json_mutants(DOCUMENT, 500) for path in set(places(DOCUMENT)) - set(places(mutant))}
    assert len(reached) >= len(places(DOCUMENT)) - 1  # all but the document itself


def test_byte_mutants_are_many_and_seeded():
    data = json.dumps(DOCUMENT).encode()
    found = list(byte_mutants(data, 300, seed=1))
    assert found == list(byte_mutants(data, 300, seed=1)) and len(set(found)) > 200
    assert sum(mutant == data for mutant in found) < 20 and b"" not in byte_mutants(b"", 0)
    assert len(list(byte_mutants(b"", 50))) == 50
