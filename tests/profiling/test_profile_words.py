"""What is said of profiles: the right thing where the figures carry it, nothing where they do not."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profile_cases import made, node

from evaluate.profiling.costs import Amount, family, groups, resolved, time_text
from evaluate.profiling.node_names import QUANTIZING
from evaluate.report.charts.bars import layers_picture, operators_picture
from evaluate.report.text.profile_table import explain, profile_table, remarks


def said(texts, word):
    """The one sentence with this word."""
    (found,) = [text for text in texts if word in text]
    return found


def convs(name, *times, **more):
    return made(name, *(node(f"conv{i}", "Conv", ms) for i, ms in enumerate(times)), **more)


# ---- sentences


def test_the_whole_call_comes_first_with_its_ratio():
    assert explain(convs("fp32", 1.0), convs("small", 0.5))[0] == (
        "One call takes 1.00 ms in fp32 and 500 us in small: 0.50x the time."
    )
    alike = explain(convs("fp32", 1.0), convs("same", 1.01))
    assert len(alike) == 1 and "does not resolve" in alike[0]


def test_where_the_gain_came_from():
    base = made("fp32", node("a", "Conv", 1.26), node("fc", "Gemm", 0.4), node("r", "Relu", 0.2))
    other = made("int8", node("a", "QLinearConv", 0.71, dtype="uint8"), node("fc", "QGemm", 0.41, dtype="uint8"))
    texts = explain(base, other)
    assert "Convolutions: 1.26 ms -> 710 us, 0.56x the time." in texts
    assert "Relu: 200 us -> none." in texts
    assert not any("Matrix products" in text for text in texts)


def test_kinds_that_got_slower_are_said_too_and_the_largest_change_first():
    base = made("fp32", node("a", "Conv", 1.0), node("b", "Add", 0.1))
    texts = explain(base, made("int8", node("a", "Conv", 0.4), node("b", "QLinearAdd", 0.3, dtype="uint8")))
    changes = [text for text in texts if text.startswith(("Convolutions", "Add"))]
    assert changes == ["Convolutions: 1.00 ms -> 400 us, 0.40x the time.", "Add: 100 us -> 300 us, 3.00x the time."]


def quantized(gains=0.5):
    """Three additions on integers, each between conversions; convolutions `gains` as long as before."""
    base = made(
        "fp32", *(node(f"c{i}", "Conv", 0.2) for i in range(3)), *(node(f"Add{i}", "Add", 0.03) for i in range(3))
    )
    kernels = [node(f"c{i}", "QLinearConv", 0.2 * gains, dtype="uint8") for i in range(3)]
    for i in range(3):
        kernels += [node(f"Add{i}", "DequantizeLinear", 0.03), node(f"Add{i}", "Add", 0.03)]
        kernels.append(node(f"Add{i}", "QuantizeLinear", 0.03))
    return base, made("int8", *kernels)


def test_conversions_are_said_with_what_they_stand_around_and_where_int8_gains_nothing():
    base, other = quantized()
    text = said(explain(base, other), "QuantizeLinear")
    share = round(100 * 0.18 / other["kernels_ms"])
    assert text == (
        f"DequantizeLinear and QuantizeLinear around Add take {share} % (180 us) of int8's kernel time: int8 gains "
        "nothing over fp32 in these 3 layers: Add0, Add1, Add2."
    )


def test_conversions_in_layers_that_gain_are_only_counted():
    base = made("fp32", node("a", "Conv", 1.0), node("b", "Conv", 1.0))
    kernels = [node("a", "QuantizeLinear", 0.1), node("a", "QLinearConv", 0.3), node("b", "QLinearConv", 0.4)]
    text = said(explain(base, made("int8", *kernels)), "QuantizeLinear")
    assert text == "QuantizeLinear around Conv takes 12 % (100 us) of int8's kernel time."


def test_layers_that_are_slower_are_named_five_at_most():
    base = convs("fp32", *[0.1] * 9)
    other = convs("int8", *[0.1] * 2, *[0.2 + 0.01 * i for i in range(7)])
    text = said(explain(base, other), "slower")
    assert text.startswith("7 layers are slower in int8 than in fp32: conv8 100 us -> 260 us, 2.60x the time; conv7")
    assert text.endswith("and 2 more.") and "conv1 " not in text and "conv2" not in text
    assert said(explain(convs("a", 0.1, 0.5), convs("b", 0.3, 0.1)), "slower").startswith(
        "1 layer is slower in b than in a"
    )


def test_pruned_layers_that_gain_no_time_are_said():
    def pruned(name, wide, ms):
        one = node("conv1", "Conv", ms, weights=[wide, 16, 3, 3])
        return made(name, one, node("conv2", "Conv", 0.01 * wide, weights=[16, wide, 3, 3]))

    text = said(explain(pruned("base", 16, 0.1), pruned("thin", 11, 0.101)), "lost weights")
    assert text == "1 layer lost weights and gained no time: conv1 (16x16x3x3 -> 11x16x3x3) 100 us -> 101 us."
    assert not any("lost weights" in t for t in explain(pruned("base", 16, 0.1), pruned("thin", 11, 0.05)))
    assert not any("lost weights" in t for t in explain(pruned("base", 16, 0.1), pruned("same", 16, 0.1)))


def test_what_stays_in_float_in_an_int8_model():
    base = made("fp32", node("a", "Conv", 1.0), node("b", "Conv", 1.0), node("p", "Pad", 0.2))
    other = made("int8", node("a", "QLinearConv", 0.5, dtype="uint8"), node("b", "Conv", 1.0), node("p", "Pad", 0.2))
    texts = explain(base, other)
    assert "1 layer stays in float in int8, 59 % (1.00 ms): b." in texts
    assert "Pad runs in float in int8: 12 % (200 us)." in texts
    assert not any("in float" in text for text in explain(base, base | {"name": "again"}))
    assert not any("in float" in text for text in explain(other, other))


def test_layout_changes_are_said_for_both():
    base = made("fp32", node("a", "Conv", 1.0), node("s", "ReorderOutput", 0.1), node("s", "Slice", 0.05))
    text = said(explain(base, made("int8", node("a", "QLinearConv", 0.5, dtype="uint8"))), "Layout")
    assert text == ("Layout changes (ReorderOutput) around Slice take 9 % (100 us) in fp32 and nothing in int8.")
    assert remarks(base) == ["Layout changes (ReorderOutput) around Slice take 9 % (100 us) in fp32."]


def test_a_transpose_of_the_model_is_no_layout_change():
    own = node("t", "Transpose", 0.5, helper=False)
    assert family(own) == "Transpose" and family(node("t", "Transpose", 0.5)) == "layout changes"
    assert remarks(made("vit", node("a", "MatMul", 1.0), own)) == []


def test_copies_between_gpu_and_cpu_name_what_runs_on_the_cpu():
    cuda = {"provider": "cuda"}
    kernels = [node("a", "Conv", 1.0, **cuda), node("s", "MemcpyToHost", 0.2, **cuda), node("s", "Slice", 0.1)]
    other = made("mixed", *kernels, node("s", "MemcpyFromHost", 0.2, **cuda), provider="cuda")
    text = said(explain(made("all", kernels[0], provider="cuda"), other), "copies")
    assert text == (
        "2 copies between GPU and CPU (MemcpyToHost and MemcpyFromHost) take 27 % (400 us) of mixed's kernel time, "
        "because Slice runs on the CPU."
    )


def test_time_outside_kernels_is_said_where_it_is_much():
    text = said(explain(convs("a", 0.008, call=0.012), convs("b", 0.007, call=0.011)), "outside")
    assert text == "At 11.0 us a call, 4.0 us (36 %) are outside any kernel in b: smaller layers cannot help there."
    assert not any("outside" in text for text in explain(convs("a", 1.0, call=1.01), convs("b", 0.5, call=0.51)))
    loud = convs("b", 0.007, call=0.011, call_error_ms=0.002)
    assert not any("outside" in text for text in explain(convs("a", 0.008, call=0.012), loud))


def test_profiles_of_different_conditions_are_not_compared():
    (text,) = explain(convs("a", 1.0), convs("b", 0.2, threads=2, batch=8))
    assert text == "a and b ran under different conditions: threads 1, batch 1 against threads 2, batch 8."


def test_times_of_launching_carry_no_claim_about_layers():
    why = "this onnxruntime cannot read the GPU's own clock"
    texts = explain(convs("a", 1.0, 0.1), convs("b", 0.2, 0.9, warnings=[why]))
    assert len(texts) == 2 and texts[1] == "This onnxruntime cannot read the GPU's own clock."


def test_layers_fused_with_different_neighbours_are_compared_as_one():
    """One runtime adds inside the convolution, the other beside it: neither is a layer that got slower or came anew."""
    base = made("fp32", node("c", "Conv", 0.3, parts=["c", "Add after c"]))
    other = made("int8", node("c", "QLinearConv", 0.1), node("Add5", "QLinearAdd", 0.05, parts=["Add after c"]))
    (group,) = groups([base, other])
    assert group.name == "c" and group.amounts[0].ms == 0.3 and group.amounts[1].ms == pytest.approx(0.15)
    assert not any("slower" in text for text in explain(base, other))


def test_groups_join_whichever_side_is_fused():
    apart = made("a", node("c", "Conv", 0.3), node("Add5", "Add", 0.1, parts=["Add after c"]), node("d", "Conv", 0.2))
    fused = made("b", node("c", "Conv", 0.2, parts=["c", "Add after c"]), node("d", "Conv", 0.2))
    for pair, places in (([apart, fused], (0, 1)), ([fused, apart], (1, 0))):
        joined, alone = groups(pair)
        assert [joined.amounts[p].ms for p in places] == pytest.approx([0.4, 0.2]) and alone.name == "d"


def test_a_layer_that_only_may_have_gained_is_not_said_to_gain_nothing():
    base, other = quantized()
    for layer in other["layers"]:
        if layer["layer"] == "Add0":
            layer.update(ms=0.02, error_ms=0.005)  # 0.67x, but not resolved
    assert "these 2 layers: Add1, Add2." in said(explain(base, other), "QuantizeLinear")


# ---- silence within the noise


def noisy(profile, share):
    """The same profile with errors of this share of every time."""
    for entry in (*profile["nodes"], *profile["layers"], *profile["operators"]):
        entry["error_ms"] = share * entry["ms"]
    return profile | {"call_error_ms": share * profile["call_ms"]}


def test_what_is_within_the_spread_is_not_claimed():
    loud = [noisy(profile, 0.3) for profile in quantized()]
    assert len(explain(*loud)) == 1 and "does not resolve" in explain(*loud)[0]
    pair = [noisy(convs(name, *times), 0.2) for name, times in (("a", (0.1, 0.3)), ("b", (0.12, 0.2)))]
    assert len(explain(*pair)) == 1


def test_kernels_shorter_than_the_clock_can_tell_are_not_claimed():
    base = convs("fp32", 0.0004, 0.0009, call=0.004)
    assert len(explain(base, convs("int8", 0.0009, 0.0006, call=0.00402))) <= 2
    assert not any("slower" in text for text in explain(base, convs("int8", 0.0009, 0.0006, call=0.00402)))


def test_profiles_from_different_occasions_need_larger_differences():
    base, other = convs("fp32", 1.0, 0.5), convs("int8", 0.85, 0.42)
    assert len(explain(base, other)) > 1
    apart = explain(base, other | {"run": "another"})
    assert len(apart) == 1 and "does not resolve" in apart[0]
    assert len(explain(base, convs("int8", 0.5, 0.2, run="another"))) > 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=20), st.integers(0, 2**32 - 1))
def test_a_model_against_itself_is_never_said_to_differ(times, seed):
    """Both measured with errors of 2 %: whatever the layers, nothing but the unresolved total."""
    import random

    rng = random.Random(seed)
    one, two = (noisy(convs(n, *(t * rng.gauss(1, 0.01) for t in times)), 0.02) for n in ("a", "b"))
    assert len(explain(one, two)) == 1 and "does not resolve" in explain(one, two)[0]


def test_resolution():
    assert resolved(Amount(1.0, 0.01, 1), Amount(0.8, 0.01, 1), True)
    assert not resolved(Amount(1.0, 0.01, 1), Amount(0.8, 0.05, 1), True)
    assert not resolved(Amount(1.0, 0.0, 1), Amount(0.8, 0.0, 1), False)
    assert not resolved(Amount(0.002, 0, 2), Amount(0.0008, 0, 1), True)


# ---- the table


def test_the_table_sets_models_side_by_side_and_ends_with_the_sentences():
    table = profile_table(list(quantized()), 100)
    lines = table.splitlines()
    assert lines[0].split() == ["operator", "fp32", "int8"]
    assert re.search(r"Conv, QLinearConv +600 us +87 % +300 us +53 %", table)
    assert re.search(r"outside kernels +0.0 us +0.0 us", table) and re.search(r"one call +690 us +570 us", table)
    assert re.search(r"^Add0 +30 us +4 % +90 us +16 %", table, re.M)
    assert "int8 against fp32" in lines and "- One call takes 690 us in fp32" in table
    assert all(op in table for op in QUANTIZING[:2])


@pytest.mark.parametrize("width", [40, 60, 80, 100])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_table_fits_its_width(width, count):
    base, other = quantized()
    long = "a_rather_long_name_of_a_model"
    table = profile_table([base, *(other | {"name": f"{long}_{i}"} for i in range(count - 1))], width)
    assert max(map(len, table.splitlines())) <= width
    assert all(word in table for word in ("600 us", "one call", "outside kernels", "Add"))
    assert width == 40 or table.count("\nlayer") + table.count("operator ") >= 2


def test_what_does_not_fit_beside_each_other_stands_below_with_the_baseline():
    base, other = quantized()
    table = profile_table([base, *(other | {"name": f"model{i}"} for i in range(5))], 80)
    heads = [line.split()[1:] for line in table.splitlines() if line.startswith("operator")]
    assert len(heads) > 1 and all(head[0] == "fp32" for head in heads)
    assert [name for head in heads for name in head[1:]] == [f"model{i}" for i in range(5)]


def test_many_layers_and_operators_are_cut_and_counted():
    nodes = [node(f"conv{i}", f"Op{i}", 0.1 + 0.01 * i) for i in range(30)]
    table = profile_table([made("m", *nodes)], 80)
    assert "18 more " in table and "16 more kinds" in table
    assert "conv29" in table and "conv3 " not in table


def test_hostile_names_stay_on_their_line():
    nasty = made("na\x1b[31m\nme", node("la\nyer\x07", "Conv", 1.0))
    table = profile_table([nasty, nasty], 80)
    assert "\x1b" not in table and "\x07" not in table and profile_table([], 80) == ""


@pytest.mark.parametrize(
    ("ms", "text"), [(0.0, "0.0 us"), (0.00044, "0.4 us"), (0.0123, "12 us"), (0.0996, "99.6 us"), (1.484, "1.48 ms")]
)
def test_times_have_no_more_digits_than_the_clock(ms, text):
    assert time_text(ms) == text


# ---- the pictures


@pytest.mark.parametrize("draw", [operators_picture, layers_picture])
@pytest.mark.parametrize("count", [1, 2, 6])
def test_pictures_show_every_model_and_every_figure_that_they_tell(draw, count):
    base, other = quantized()
    shown = [base, *(other | {"name": f"<int8 & {i}>"} for i in range(count - 1))]
    picture = draw(shown, key="one")
    assert picture == draw(shown, key="one")
    root = ElementTree.fromstring(picture.svg)
    words = " ".join("".join(e.itertext()) for e in root.iter("text"))
    assert ("outside kernels" in words) == (draw is operators_picture)
    for profile in shown[:4]:
        assert count == 1 or profile["name"] in words
        assert profile["name"] in picture.text
    assert "200 us" in words or "600 us" in words


def test_bars_are_as_long_as_their_times():
    picture = operators_picture([made("a", node("c", "Conv", 1.0), node("r", "Relu", 0.25))], key="k")
    bars = {}
    for path in ElementTree.fromstring(picture.svg).iter("path"):
        if "var(--base)" in path.get("style", ""):
            xs = [float(x) for x in re.findall(r"[ML] (-?[\d.]+) ", path.get("d"))]
            bars[len(bars)] = max(xs) - min(xs)
    assert bars[1] / bars[0] == pytest.approx(0.25, abs=0.01)


def test_nothing_to_draw_gives_no_picture():
    assert operators_picture([], key="k") is None and layers_picture([], key="k") is None
    empty = made("e", call=0.01)
    assert layers_picture([empty], key="k") is None and operators_picture([empty], key="k") is not None


def test_layers_keep_their_running_order_and_the_title_counts_what_is_left_out():
    times = [0.1 + 0.01 * ((7 * i) % 30) for i in range(30)]
    picture = layers_picture([convs("m", *times)], key="k")
    assert "20 longest of 30" in picture.title
    order = [int(number) for number in re.findall(r"conv(\d+):", picture.text)]
    assert order == sorted(order) and len(order) == 20


def test_a_profile_whose_kernels_are_too_short_to_be_seen_is_no_fault():
    base = made("fp32", node("a", "Conv", 1.0), node("r", "ReorderInput", 0.5, helper=True))
    nothing = made("tiny", node("a", "Conv", 1.0), node("r", "ReorderInput", 0.5, helper=True))
    nothing["kernels_ms"] = 0.0
    for entry in (*nothing["nodes"], *nothing["operators"], *nothing["layers"]):
        entry["ms"] = entry["share"] = 0.0
    assert "0 % (0.0 us) in tiny" in said(explain(base, nothing), "Layout changes")
