"""One tiny case a pass: every pass must have one, and every shared test runs on each."""

from __future__ import annotations

from typing import Any

CASES: dict[str, list[dict[str, Any]]] = {
    "prune": [
        {"keep": {"macs": 0.5}},
        {"keep": {"params": 0.6}, "importance": "l1", "scope": "per_layer", "round_to": 4},
        {"keep": {"macs": 0.6}, "recover": {"epochs": 1, "batch_size": 64, "distill": {}}},
    ],
    "quantize": [
        {"calibrate": {"samples": 64}},
        {"calibrate": {"method": "mse", "samples": 64}, "target": "avx2", "exclude": ["conv1"]},
        {"mode": "dynamic", "choose": "fixed"},
        {"mode": "weight-only", "bits": 4, "blocks": {"method": "gptq"}, "calibrate": {"samples": 64}},
        {"mode": "weight-only"},
        {"bits": 4, "calibrate": {"samples": 64}, "train": {"epochs": 1, "batch_size": 64, "distill": {}}},
    ],
    "sparsify": [
        {"sparsity": 0.8},
        {"pattern": "2:4", "exclude": ["conv1"], "recover": {"epochs": 1, "batch_size": 64}},
        {"sparsity": 0.5, "pattern": "4x1", "scope": "per_layer", "score": "taylor", "exclude": ["linear"]},
        {"sparsity": 0.9, "steps": 2, "regrow": 0.2, "batches": 2, "recover": {"epochs": 2, "batch_size": 64}},
    ],
    "factorize": [
        {"keep": {"params": 0.6}, "samples": 0},
        {"keep": {"macs": 0.7}, "samples": 0, "tucker": False, "recover": {"epochs": 1, "batch_size": 64}},
        {"keep": {"energy": 0.8}, "samples": 0, "exclude": ["linear"]},
    ],
    "share": [
        {"bits": 4},
        {"bits": 6, "exclude": ["conv1"], "recover": {"epochs": 1, "batch_size": 64}},
    ],
    "shorten": [
        {"keep": {"macs": 0.8}, "samples": 64},
        {"keep": {"params": 0.95}, "samples": 64, "recover": {"epochs": 1, "batch_size": 64}},
    ],
    "finetune": [{"epochs": 1, "batch_size": 64}],
    "distill": [{"epochs": 1, "batch_size": 64, "temperature": 2.0, "weight": 0.5}],
}
