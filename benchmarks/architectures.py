"""Which architectures go through: some hundred networks of timm, torchvision, Transformers and of one's own.

Each, with random weights and tiny random data, goes through compress() with pruning to half its MACs and int8, in a
process of its own with a time limit; where that fails, with each alone. What came out is verified and loaded again. A
failure counts as clear where it is an error of leanfit's own that says what to do, and as a traceback otherwise.

Run: python benchmarks/architectures.py --out architectures.jsonl [--jobs 1] [--only NAME]   (an hour; goes on where it
stopped); python benchmarks/architectures.py --out architectures.jsonl --table prints the table.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
LIMIT = 420  # seconds a network
CLASSES, SAMPLES = 4, 48
WAYS = {"both": ("prune", "quantize"), "prune": ("prune",), "quantize": ("quantize",)}
PASSES: dict[str, dict[str, Any]] = {
    "prune": {"kind": "prune", "keep": {"macs": 0.5}, "recalibrate": 2, "batches": 2},
    "quantize": {"kind": "quantize", "calibrate": {"samples": 16}},
}
Made = tuple[nn.Module, dict[str, Tensor], Tensor, dict[str, Any]]  # network, inputs, targets, settings of the task


def labels() -> Tensor:
    return torch.arange(SAMPLES) % CLASSES


def image(size: int = 64, channels: int = 3) -> dict[str, Tensor]:
    return {"input": torch.rand(SAMPLES, channels, size, size)}


def of_timm(name: str, size: int = 64, **settings: Any) -> Callable[[], Made]:
    def make() -> Made:
        import timm

        return timm.create_model(name, num_classes=CLASSES, **settings), image(size), labels(), {}

    return make


def of_torchvision(name: str, size: int = 64, output: str | None = None, **settings: Any) -> Callable[[], Made]:
    def make() -> Made:
        from torchvision import models

        network = models.get_model(name, weights=None, num_classes=CLASSES, **settings)
        return network, image(size), labels(), {"output": output} if output else {}

    return make


def segmenting(name: str, size: int = 64) -> Callable[[], Made]:
    """A network whose dict of outputs holds a map; the mean of each class over the map is regressed."""

    def make() -> Made:
        from torchvision import models

        network = models.get_model(name, weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=None)
        return network, image(size), torch.rand(SAMPLES, CLASSES, size, size), {"output": "out"}

    return make


def of_transformers(kind: str, config: str, head: str, inputs: str = "ids", **settings: Any) -> Callable[[], Made]:
    """A tiny configuration of an architecture, as AutoModelFor<head> builds it."""

    def make() -> Made:
        import transformers

        made = getattr(transformers, config)(**settings)
        if head == "SequenceClassification":
            made.num_labels, made.pad_token_id = CLASSES, 0
        elif head in ("ImageClassification", "AudioClassification"):
            made.num_labels = CLASSES
        made._attn_implementation, made.architectures = "eager", [f"{config.removesuffix('Config')}For{head}"]
        network = getattr(transformers, f"AutoModelFor{head}").from_config(made)
        return network, _inputs(inputs), labels(), {}

    return make


def _inputs(kind: str) -> dict[str, Tensor]:
    ids = torch.randint(3, 100, (SAMPLES, 16))
    return {
        "ids": {"input_ids": ids, "attention_mask": torch.ones_like(ids)},
        "kinds": {"input_ids": ids, "token_type_ids": torch.zeros_like(ids), "attention_mask": torch.ones_like(ids)},
        "pixels": {"pixel_values": torch.rand(SAMPLES, 3, 32, 32)},
        "wave": {"input_values": torch.randn(SAMPLES, 2000)},
    }[kind]


TINY = {
    "vocab_size": 100, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
}  # fmt: skip
VISION = {**{k: v for k, v in TINY.items() if k != "vocab_size"}, "image_size": 32, "patch_size": 8}
SPEECH = {
    **TINY, "conv_dim": (32, 32), "conv_stride": (5, 4), "conv_kernel": (10, 8), "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4, "classifier_proj_size": 32,
}  # fmt: skip


def own(name: str) -> Callable[[], Made]:
    def make() -> Made:
        import own_nets

        return own_nets.NETS[name]()

    return make


def networks() -> dict[str, Callable[[], Made]]:
    """Every network by name; nothing is built here."""
    small = {"img_size": 64}
    found = {f"timm {name}": of_timm(name) for name in (
        "resnet10t", "resnet18", "resnet26d", "resnext26ts", "seresnext26t_32x4d", "mobilenetv2_035",
        "mobilenetv3_small_050", "mobilenetv4_conv_small_035", "efficientnet_lite0", "efficientnet_b0", "tinynet_e",
        "ghostnet_050", "mnasnet_small", "semnasnet_075", "fbnetc_100", "regnetx_002", "regnety_002", "vgg11_bn",
        "convnext_atto", "convnextv2_atto", "edgenext_xx_small", "mobilevit_xxs", "mobilevitv2_050", "poolformer_s12",
        "repvgg_a0", "hardcorenas_a", "lcnet_050", "mobileone_s0", "pvt_v2_b0", "dla34", "selecsls42b", "cspresnet50",
        "rexnetr_100", "tf_efficientnetv2_b0", "skresnet18", "res2net50_26w_4s", "eca_resnet33ts", "resnetv2_50",
    )}  # fmt: skip
    found |= {f"timm {name}": of_timm(name, **small) for name in (
        "vit_tiny_patch16_224", "deit_tiny_patch16_224", "mixer_s32_224", "resmlp_12_224", "xcit_nano_12_p16_224",
        "cait_xxs24_224", "visformer_tiny",
    )}  # fmt: skip
    found |= {f"torchvision {name}": of_torchvision(name) for name in (
        "resnet18", "squeezenet1_1", "shufflenet_v2_x0_5", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small",
        "efficientnet_b0", "regnet_x_400mf", "regnet_y_400mf", "densenet121", "resnext50_32x4d", "vgg11_bn",
    )}  # fmt: skip
    found["torchvision vit_b_16"] = of_torchvision("vit_b_16", 32, image_size=32)
    found["torchvision googlenet"] = of_torchvision("googlenet", init_weights=False, aux_logits=False)
    for name in ("lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large", "fcn_resnet50"):
        found[f"torchvision {name}"] = segmenting(name)
    texts = "SequenceClassification"
    for kind, config, inputs, settings in (
        ("bert", "BertConfig", "kinds", TINY),
        ("roberta", "RobertaConfig", "ids", TINY),
        ("electra", "ElectraConfig", "kinds", {**TINY, "embedding_size": 64}),
        ("mpnet", "MPNetConfig", "ids", TINY),
        ("deberta", "DebertaConfig", "ids", {**TINY, "pos_att_type": ["c2p", "p2c"], "relative_attention": True}),
        ("deberta-v2", "DebertaV2Config", "ids", {**TINY, "pos_att_type": ["c2p"], "relative_attention": True}),
        ("albert", "AlbertConfig", "kinds", {**TINY, "embedding_size": 32}),
        ("mobilebert", "MobileBertConfig", "kinds", {**TINY, "embedding_size": 32, "intra_bottleneck_size": 32}),
        ("squeezebert", "SqueezeBertConfig", "ids", {**TINY, "embedding_size": 64}),
        ("distilbert", "DistilBertConfig", "ids",
         {"vocab_size": 100, "dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128}),
        ("gpt2", "GPT2Config", "ids", {"vocab_size": 100, "n_embd": 64, "n_layer": 2, "n_head": 4}),
        ("gpt-neox", "GPTNeoXConfig", "ids", TINY),
        ("opt", "OPTConfig", "ids", {**TINY, "ffn_dim": 128, "word_embed_proj_dim": 64}),
        ("llama", "LlamaConfig", "ids", {**TINY, "num_key_value_heads": 2}),
        ("qwen2", "Qwen2Config", "ids", {**TINY, "num_key_value_heads": 2}),
        ("modernbert", "ModernBertConfig", "ids", {**TINY, "global_attn_every_n_layers": 2, "local_attention": 8}),
    ):  # fmt: skip
        found[f"transformers {kind}"] = of_transformers(kind, config, texts, inputs, **settings)
    pictures = "ImageClassification"
    for kind, config, settings in (
        ("vit", "ViTConfig", VISION),
        ("deit", "DeiTConfig", VISION),
        ("beit", "BeitConfig", VISION),
        ("convnext", "ConvNextConfig", {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]}),
        ("resnet", "ResNetConfig", {"embedding_size": 16, "hidden_sizes": [32, 64], "depths": [1, 1]}),
        ("segformer", "SegformerConfig", {"hidden_sizes": [16, 32, 40, 64], "depths": [1, 1, 1, 1]}),
    ):
        found[f"transformers {kind}"] = of_transformers(kind, config, pictures, "pixels", **settings)
    for kind, config in (("wav2vec2", "Wav2Vec2Config"), ("hubert", "HubertConfig")):
        speech = of_transformers(kind, config, texts.replace("Sequence", "Audio"), "wave", **SPEECH)
        found[f"transformers {kind}"] = speech
    from own_nets import NETS

    return {**found, **{f"own {name}": own(name) for name in NETS}}


def attempt(name: str, folder: pathlib.Path, only: str) -> dict[str, Any]:
    """What became of one network, by way: "ok", or the error. `only` is one way, where both together took too long."""
    from torchvision_ops import declare

    operators = declare()  # noqa: F841  (they live as long as it does)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network, inputs, targets, settings = networks()[name]()
    began, found = time.time(), {"name": name, "params": sum(p.numel() for p in network.parameters())}
    if only:
        return {**found, only: one_way(network, inputs, targets, settings, only, folder)}
    found["both"] = said = one_way(network, inputs, targets, settings, "both", folder)
    for way in ("prune", "quantize"):
        found[way] = said if said == "ok" else one_way(network, inputs, targets, settings, way, folder)
    return {**found, "seconds": round(time.time() - began)}


def one_way(
    network: nn.Module, inputs: dict[str, Tensor], targets: Tensor, settings: dict[str, Any], way: str, at: pathlib.Path
) -> str:
    """ "ok", or what the error is, "TRACEBACK" before one that is not leanfit's own."""
    import leanfit

    def part(a: int, b: int) -> tuple[dict[str, Tensor], Tensor]:
        return {key: tensor[a:b] for key, tensor in inputs.items()}, targets[a:b]

    recipe = {"version": 1, "name": "architecture", "passes": [PASSES[kind] for kind in WAYS[way]]}
    try:
        classes = None if targets.is_floating_point() else CLASSES
        task = leanfit.Task.from_tensors(part(0, 32), part(32, 40), part(40, 48), classes=classes, **settings)
        out = at / way
        leanfit.compress(network, {**recipe, "benchmark": {"seconds": 0.3}}, task=task, out=out, device="cpu")
        wrong = [f"{check.name}: {check.detail}" for check in leanfit.verify(out, base=network) if not check.ok]
        leanfit.load(out).module(base=network)
        return f"verify: {'; '.join(wrong)}" if wrong else "ok"
    except leanfit.LeanfitError as error:
        return f"{type(error).__name__}: {error}"
    except Exception as error:  # noqa: BLE001  (what is counted)
        return f"TRACEBACK {type(error).__name__}: {error}"


def run(name: str, way: str = "") -> dict[str, Any]:
    """One network in a process of its own; where that takes too long, each way in one of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-W", "ignore", __file__, "--one", name, "--way", way, "--out", folder]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
        except subprocess.TimeoutExpired:
            late = {"name": name, **dict.fromkeys([way] if way else WAYS, f"more than {LIMIT} s")}
            return late if way else late | run(name, "prune") | run(name, "quantize")
        lines = [line for line in done.stdout.splitlines() if line.startswith('{"name"')]
        last = (done.stderr.strip().splitlines() or [""])[-1]
        return json.loads(lines[-1]) if lines else {"name": name, **dict.fromkeys(WAYS, f"TRACEBACK {last}")}


def table(rows: list[dict[str, Any]]) -> str:
    """Counts by where the networks come from, as Markdown, then every failure."""
    ways, sources = ("quantize", "prune", "both"), list(dict.fromkeys(row["name"].split()[0] for row in rows))
    lines = ["| networks | number | int8 | half the MACs | both |", "|---|---|---|---|---|"]
    for source in [*sources, ""]:
        mine = [row for row in rows if row["name"].startswith(source)]
        good = [sum(row[way] == "ok" for row in mine) for way in ways]
        counts = [f"{n} ({100 * n / max(1, len(mine)):.0f} %)" for n in good]
        lines.append(f"| {' | '.join([source or 'all', str(len(mine)), *counts])} |")
    said = [row[way] for row in rows for way in ("quantize", "prune", "both")]
    lines.append(f"tracebacks {sum(text.startswith('TRACEBACK') for text in said)}")
    for row in rows:
        for way in ("quantize", "prune"):
            if row[way] != "ok":
                lines.append(f"{row['name']}, {way}: {' '.join(row[way].split())[:300]}")
    return "\n".join(lines)


def main() -> int:
    """Run what is missing in --out, and print the table. Exits 1 where a traceback was seen."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("architectures.jsonl"))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--one", default="")
    parser.add_argument("--way", default="")
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(attempt(given.one, given.out, given.way)), flush=True)
        return 0
    rows = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.is_file() else []
    known = {row["name"] for row in rows}
    waiting = [] if given.table else [name for name in networks() if name not in known and given.only in name]
    with ThreadPoolExecutor(given.jobs) as pool, given.out.open("a") as file:
        for row in pool.map(run, waiting):
            rows.append(row)
            file.write(json.dumps(row) + "\n")
            file.flush()
            print(f"{len(rows)} {row['name']}: {row['both'][:160]}", flush=True)
    print(table(rows))
    return int(any(str(row[way]).startswith("TRACEBACK") for row in rows for way in WAYS))


if __name__ == "__main__":
    sys.exit(main())
