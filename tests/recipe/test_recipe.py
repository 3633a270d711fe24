"""Loading recipes: defaults, places of every error, --set, order, and the way back to YAML."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from compress.core.config import Config
from compress.core.errors import RecipeError
from compress.core.registries import PASSES
from compress.passes.base import PassResult, register_pass
from compress.recipe.load import load_recipe, shipped_recipes
from compress.recipe.positions import RecipeProblems
from compress.recipe.schema import Recipe

GOOD = """\
version: 1
model: {name: mlp, inputs: 64}
task: {name: digits}
train: {epochs: 2, learning_rate: 1e-3}
passes:
  - kind: prune
    keep: {macs: 0.5}
    recover:
      epochs: 1
      distill: {temperature: 4}
  - kind: quantize
    calibrate: {method: minmax}
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text: str | bytes, name: str = "r.yaml") -> str:
        Path(name).write_bytes(text.encode() if isinstance(text, str) else text)
        return name

    return write


def problems(source, overrides=()) -> list[str]:
    with pytest.raises(RecipeProblems) as caught:
        load_recipe(source, overrides)
    assert caught.value.exit_code == 3
    return [str(p) for p in caught.value.problems]


def test_a_recipe_is_read_with_its_defaults(write):
    recipe = load_recipe(write(GOOD))
    assert recipe.name == "r"
    assert recipe.train.learning_rate == 1e-3
    assert [step.kind for step in recipe.passes] == ["prune", "quantize"]
    assert recipe.passes[0].config.recover.distill.temperature == 4
    assert recipe.model.args == {"inputs": 64, "classes": 10, "width": 64, "depth": 2}
    assert recipe.benchmark.threads == 1


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_load_by_name_and_come_back(name, write):
    recipe = load_recipe(name)
    assert recipe.name == name
    again = load_recipe(write(recipe.to_yaml()))
    assert again == recipe
    assert again.hash == recipe.hash
    assert load_recipe(recipe.dump()) == recipe


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_begins_with_the_command_that_runs_it(name):
    first = shipped_recipes()[name].read_text().splitlines()[0]
    recipe = load_recipe(name)
    wanted = f"leanfit compress {name}" if recipe.model is not None else f'compress(model, "{name}", task=task)'
    assert first.startswith("#")
    assert first.endswith(wanted)


def test_all_errors_are_told_at_once_each_with_its_place(write):
    bad = GOOD.replace("version: 1", "version: 2").replace("mlp", "mpl").replace("keep:", "kep:")
    bad = bad.replace("epochs: 1", "epochs: 0").replace("temperature: 4", "temprature: 4").replace("minmax", "minmx")
    found = problems(write(bad))
    places = [line.split(" ")[0] for line in found]
    assert places == [
        "r.yaml:1:10:",
        "r.yaml:2:15:",
        "r.yaml:6:5:",
        "r.yaml:7:5:",
        "r.yaml:9:15:",
        "r.yaml:10:17:",
        "r.yaml:12:25:",
    ]
    assert "expected 1; got 2" in found[0]
    assert "did you mean 'mlp'" in found[1]
    assert "missing key 'keep'" in found[2]
    assert "unknown key 'kep'; did you mean 'keep'?" in found[3]
    assert "expected a whole number of at least 1; got 0" in found[4]
    assert "did you mean 'temperature'?" in found[5]
    assert "did you mean 'minmax'?" in found[6]
    for text in found:
        _, line, caret = text.splitlines()
        assert line[4:] in bad.splitlines()
        assert caret.strip() == "^"


@pytest.mark.parametrize(
    ("old", "new", "where", "said"),
    [
        ("epochs: 2", "epochs: '2'", "4:17", "expected a whole number of at least 1; got '2'"),
        ("epochs: 2", "epochs: true", "4:17", "expected a whole number of at least 1; got true"),
        ("epochs: 2", "epochs: 2.5", "4:17", "expected a whole number of at least 1; got 2.5"),
        ("1e-3", ".inf", "4:35", "expected a number above 0 and of at most 1000; got inf"),
        ("1e-3", "fast", "4:35", "expected a number above 0; got 'fast'"),
        ("epochs: 2", "epochs: ~", "4:17", "expected a whole number of at least 1; got nothing (null)"),
        ("epochs: 2", "augment: {flip: on}", "4:25", "expected true or false; got 'on'"),
        ("epochs: 2", "augment: {flip: 1}", "4:25", "expected true or false; got 1"),
        ("epochs: 2", "augment: on", "4:18", "expected a block with keys such as flip"),
        ("epochs: 2", "optimizer: SGD", "4:20", "expected 'sgd' or 'adamw'; got 'SGD'; did you mean 'sgd'?"),
        ("epochs: 2", "class_weights: blanced", "4:24", "did you mean 'balanced'?"),
        ("epochs: 2", "class_weights: [1, x]", "4:28", "expected a number of at least 0; got 'x'"),
        ("epochs: 2", "schedule: {kind: cosine, gamma: 0.5}", "4:9", "gamma has no effect on a cosine schedule"),
        ("{macs: 0.5}", "{macs: 2}", "7:18", "got 2"),
        ("{macs: 0.5}", "{macs: 0.5, params: 0.5}", "7:5", "expected exactly one of"),
        ("{macs: 0.5}", "0.5", "7:11", "expected a block with keys such as params, macs"),
        ("{macs: 0.5}", "{macs: 0.5}\n    round_to: x", "8:15", "expected 'auto' or a whole number of at least 1"),
        ("inputs: 64", "width: 4", "2:1", "missing key 'inputs'"),
        ("inputs: 64", "inputs: 0", "2:28", "expected a whole number of at least 1; got 0"),
        ("inputs: 64", "inputs: '64'", "2:28", "expected a whole number of at least 1; got '64'"),
        ("inputs: 64", "inputs: 64, weigths: x.pt", "2:32", "did you mean 'weights'?"),
        ("inputs: 64", "inputs: 64, weights: 3", "2:41", "expected a text; got 3"),
        ("{name: mlp, inputs: 64}", "mlp", "2:8", "expected a block of keys such as {name: mlp}; got 'mlp'"),
        ("{name: mlp, inputs: 64}", "{nmae: mlp}", "2:1", "missing key 'name'"),
        ("{name: mlp, inputs: 64}", "{name: no.such.module:x}", "2:15", "importing 'no.such.module' failed"),
        ("{name: mlp, inputs: 64}", "{name: [mlp]}", "2:15", "expected the name of a model; got a list of 1"),
        ("{name: digits}", "{name: digit}", "3:14", "unknown task 'digit'; did you mean 'digits'?"),
        ("{name: digits}", "{name: digits, train_limit: 3}", "3:35", "expected a whole number of at least 10; got 3"),
        ("kind: prune", "kind: prun", "6:11", "unknown pass 'prun'; did you mean 'prune'?"),
        ("kind: prune", "kind: 3", "6:11", "unknown pass 3; known passes: prune"),
        ("kind: prune", "knd: prune", "6:5", "missing key 'kind'"),
        ("version: 1\n", "version: 1\nname: a/b\n", "2:7", "expected a text that matches"),
        ("version: 1\n", "version: 1\nseed: -1\n", "2:7", "expected a whole number of at least 0 and below 4294967296"),
        ("version: 1\n", "version: 1\ngoals: {byts: 0.3}\n", "2:9", "did you mean 'bytes'?"),
        ("version: 1\n", "version: 1\ngoals: {bytes: 2M}\n", "2:16", "did you mean '2MB'?"),
        ("version: 1\n", "version: 1\nexport: [20]\n", "2:9", "expected a block with keys such as opset"),
        ("version: 1\n", "version: 1\n<<: {seed: 1}\n", "2:1", "unknown key '<<'"),
        ("version: 1\n", "", "1:1", "missing key 'version': expected 1"),
    ],
)  # fmt: skip
def test_an_error_points_at_its_cause(write, old, new, where, said):
    assert old in GOOD
    found = problems(write(GOOD.replace(old, new, 1)))
    assert len(found) == 1, found
    assert found[0].startswith(f"r.yaml:{where}: ")
    assert said in found[0]


@pytest.mark.parametrize(
    ("text", "where", "said"),
    [
        ("", "r.yaml: ", "the recipe is empty"),
        ("# nothing\n", "r.yaml: ", "the recipe is empty"),
        ("- 1\n- 2\n", "r.yaml:1:1: ", "the recipe is a list"),
        ("hello\n", "r.yaml:1:1: ", "the recipe is a single value"),
        ("passes: []\nversion: 1\n", "r.yaml:1:9: ", "expected a list of at least one pass"),
        ("passes: {kind: prune}\nversion: 1\n", "r.yaml:1:9: ", "expected a list of at least one pass"),
        ("passes: [prune]\nversion: 1\n", "r.yaml:1:10: ", "expected a block with the key 'kind'; got 'prune'"),
        ("version: 1\npasses: [\n", "r.yaml:3:1: ", "expected the node content"),
    ],
)
def test_files_that_are_no_recipe(write, text, where, said):
    (found,) = problems(write(text))
    assert found.startswith(where)
    assert said in found


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xff\xfe\x00\x01" * 50, "a binary file"),
        (b"version: 1\nname: caf\xe9\n", "r.yaml:2:10: not UTF-8"),
        (b"version: 1\n" * 200_000, "larger than"),
    ],
)
def test_files_that_are_no_text(write, data, said):
    with pytest.raises(RecipeError, match=said):
        load_recipe(write(data))


def test_a_byte_order_mark_is_no_problem(write):
    assert load_recipe(write(b"\xef\xbb\xbf" + GOOD.encode())).version == 1
    assert load_recipe(write(GOOD.replace("\n", "\r\n"))).seed == 0


def test_places_that_hold_no_recipe(write, tmp_path):
    write(GOOD, "mine.yaml")
    for given_name, said in (
        ("mien.yaml", "did you mean 'mine.yaml'?"),
        ("digits-resnet-half-in8", "did you mean 'digits-resnet-half-int8'?"),
        ("nothing-like-it", "expected a file, or one of cifar10-resnet20-half"),
        (".", "did you mean 'mine.yaml'?"),
        ("/dev/null", "not an ordinary file"),
        ("version: 1\npasses: []", "recipe text goes into a file"),
        ("x" * 5000, "cannot be a recipe's path"),
        ("", "expected a recipe's path or name"),
    ):
        with pytest.raises(RecipeError, match=re.escape(said)):
            load_recipe(given_name)


@pytest.mark.parametrize("value", [None, 3, ["version"]])
def test_a_source_of_another_type_is_refused(value):
    with pytest.raises(RecipeError, match="expected a path"):
        load_recipe(value)


def test_set_changes_adds_and_is_read_as_yaml(write):
    path = write(GOOD)
    recipe = load_recipe(
        path,
        [
            "passes.1.calibrate.samples=17",
            "goals.drop=1e-1",
            "passes.0.exclude=[head]",
            "train.optimizer=adamw",
            "model.depth=3",
        ],
    )
    assert recipe.passes[1].config.calibrate.samples == 17
    assert recipe.goals.drop == 0.1
    assert recipe.passes[0].config.exclude == ("head",)
    assert recipe.train.weight_decay == 0.01
    assert recipe.model.args["depth"] == 3
    assert load_recipe(path).passes[1].config.calibrate.samples != 17
    assert load_recipe(load_recipe(path), ["seed=4"]).seed == 4


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("passes.0.raito=1", "unknown key 'raito'"),
        ("passes.0.keep.mac=0.3", "did you mean 'macs'?"),
        ("benchmrk.threads=1", "unknown key 'benchmrk'; did you mean 'benchmark'?"),
        ("passes.2.kind=quantize", "passes is a list; expected one of 0 to 1, got '2'"),
        ("passes.first.kind=quantize", "expected one of 0 to 1, got 'first'"),
        ("passes.-1.kind=quantize", "expected one of 0 to 1, got '-1'"),
        ("pases.0.kind=prune", "there is no list 'pases' to take entry 0 of; did you mean 'passes'?"),
        ("version.x=1", "version is a single value and has nothing named 'x'"),
        ("passes.1.calibrate.samples=many", "expected a whole number"),
        ("passes.1.calibrate.samples=[1", "the value is not YAML"),
        ("seed=1=2", "expected a whole number"),
        ("seed", "expected KEY=VALUE"),
        ("=3", "expected KEY=VALUE"),
        ("a..b=3", "expected KEY=VALUE"),
        ("passes.1={kind: prune}", "missing key 'keep'"),
        ("passes=3", "expected a list of at least one pass"),
        ("task.name=digit", "did you mean 'digits'?"),
    ],
)
def test_a_wrong_set_is_told_by_its_own_text(write, override, said):
    found = [text for text in problems(write(GOOD), [override]) if text.startswith("--set")]
    assert any(text.startswith(f"--set {override}: ") and said in text for text in found), found


def test_wrong_sets_and_wrong_lines_are_told_together(write):
    found = problems(write(GOOD.replace("minmax", "maxmin")), ["nope", "passes.0.raito=1"])
    assert [text.split(": ")[0] for text in found] == ["r.yaml:12:25", "--set nope", "--set passes.0.raito=1"]


@pytest.mark.parametrize(
    ("kinds", "refused"),
    [
        (["prune", "quantize"], {}),
        (["prune", "finetune", "distill", "quantize"], {}),
        (["prune", "prune"], {}),
        (["quantize", "finetune"], {1: "would train the fp32 network"}),
        (["quantize", "distill"], {1: "would train the fp32 network"}),
        (["quantize", "prune"], {1: "has its shapes and ranges fixed"}),
        (["quantize", "quantize"], {1: "writes its deployed graph once"}),
        (["quantize", "prune", "quantize"], {1: "shapes", 2: "writes its deployed graph once"}),
    ],
)
def test_the_order_of_passes(kinds, refused):
    passes = [
        {"kind": kind} | ({"keep": {"macs": 0.5 - n / 10}} if kind == "prune" else {}) for n, kind in enumerate(kinds)
    ]
    if not refused:
        assert [step.kind for step in load_recipe({"version": 1, "passes": passes}).passes] == kinds
        return
    found = problems({"version": 1, "passes": passes})
    assert len(found) == len(refused)
    for text, (place, reason) in zip(found, refused.items(), strict=True):
        assert text.startswith(f"recipe: passes.{place}.kind: ")
        assert reason in text


def test_an_order_that_works_and_is_seldom_wanted_is_warned_of():
    twice = {"version": 1, "passes": [{"kind": "prune", "keep": {"macs": m}} for m in (0.7, 0.5)]}
    assert "both prune" in load_recipe(twice).warnings[0]
    assert load_recipe({"version": 1, "passes": [{"kind": "quantize"}]}).warnings == []
    assert (
        "from the uncompressed model into itself"
        in load_recipe({"version": 1, "passes": [{"kind": "distill"}]}).warnings[0]
    )


def test_a_model_needs_weights_or_training():
    recipe = {"version": 1, "model": {"name": "resnet"}, "passes": [{"kind": "quantize"}]}
    assert "no 'weights'" in problems(recipe)[0]
    assert load_recipe(recipe | {"train": {}}).train is not None
    assert load_recipe(recipe | {"model": {"name": "resnet", "weights": "x.pt"}}).model.weights == "x.pt"


def test_a_named_teacher_needs_weights():
    teacher = {"name": "resnet", "depth": 14}
    recipe = {"version": 1, "passes": [{"kind": "distill", "teacher": teacher}]}
    assert problems(recipe)[0].startswith("recipe: passes.0.teacher: the teacher needs 'weights'")
    config = (
        load_recipe({"version": 1, "passes": [{"kind": "distill", "teacher": teacher | {"weights": "t.pt"}}]})
        .passes[0]
        .config
    )
    assert (config.teacher.name, config.teacher.args["depth"], config.teacher.weights) == ("resnet", 14, "t.pt")


def test_a_mapping_may_hold_configurations():
    recipe = load_recipe("digits-resnet-half-int8")
    data = {"version": 1, "passes": recipe.passes, "train": recipe.train, "goals": recipe.goals, "model": recipe.model}
    again = load_recipe(data)
    assert (again.passes, again.train, again.goals, again.model) == (
        recipe.passes,
        recipe.train,
        recipe.goals,
        recipe.model,
    )


def test_a_mapping_that_holds_itself_is_refused():
    data = {"version": 1}
    data["passes"] = data
    with pytest.raises(RecipeError, match="nested deeper"):
        load_recipe(data)


def test_a_pass_of_the_users_own_is_checked_like_the_others():
    class Noop(Config):
        strength: int = 1

    @register_pass("noop-for-test", Noop)
    def noop(model, config, context):
        """Change nothing."""
        return PassResult(model)

    try:
        assert load_recipe({"version": 1, "passes": [{"kind": "noop-for-test"}]}).passes[0].config == Noop()
        found = problems({"version": 1, "passes": [{"kind": "quantize"}, {"kind": "noop-for-test", "strenght": 2}]})
        assert any("did you mean 'strength'?" in text for text in found)
        assert any("noop-for-test may not follow quantize" in text for text in found)
    finally:
        PASSES.forget("noop-for-test")


def test_patterns_that_match_no_layer_are_told_with_their_lines(write):
    text = "version: 1\npasses:\n  - kind: quantize\n    layers: ['*']\n    exclude:\n"
    text += "      - '0'\n      - '3'\n      - body\n"
    model = nn.Sequential()
    model.add_module("0", nn.Linear(2, 2))
    model.add_module("body", nn.Sequential(nn.Linear(2, 2)))
    recipe = load_recipe(write(text))
    with pytest.raises(RecipeProblems) as caught:
        recipe.check_layers(model)
    first, second = caught.value.problems
    assert str(first).startswith("r.yaml:7:9: pattern '3' matches no layer")
    assert str(second).startswith("r.yaml:8:9: pattern 'body' matches no layer; did you mean 'body.*'?")
    load_recipe("half-int8").check_layers(model)


def test_the_source_is_no_part_of_a_recipe(write):
    recipe = load_recipe(write(GOOD))
    same = load_recipe(recipe.dump())
    assert recipe.source.name == "r.yaml"
    assert recipe == same
    assert hash(recipe) == hash(same)
    assert "source" not in recipe.dump()
    assert recipe != load_recipe(recipe, ["seed=1"])
    assert recipe.hash != load_recipe(recipe, ["seed=1"]).hash


names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
shares = st.floats(min_value=1e-3, max_value=1)
amounts = shares | st.sampled_from(["300k", "1.5M", "2G"])
prunes = st.fixed_dictionaries(
    {"kind": st.just("prune"), "keep": st.fixed_dictionaries({"macs": amounts})},
    optional={
        "layers": st.lists(names, min_size=1, max_size=3),
        "per_layer": st.dictionaries(names, shares, max_size=3),
        "round_to": st.just("auto") | st.integers(1, 64),
        "recover": st.none() | st.fixed_dictionaries({"epochs": st.integers(1, 9)}, optional={"distill": st.just({})}),
    },
)
quantizes = st.fixed_dictionaries({"kind": st.just("quantize")}, optional={"exclude": st.lists(names, max_size=3)})
recipes = st.fixed_dictionaries(
    {
        "version": st.just(1),
        "passes": st.builds(lambda p, q: [*p, *q], st.lists(prunes, min_size=1), st.lists(quantizes, max_size=1)),
    },
    optional={
        "seed": st.integers(0, 2**32 - 1),
        "model": st.fixed_dictionaries({"name": st.just("resnet"), "weights": names}),
        "train": st.fixed_dictionaries(
            {"learning_rate": st.floats(1e-12, 1000), "class_weights": st.lists(shares, min_size=1)}
        ),
        "goals": st.fixed_dictionaries(
            {}, optional={"drop": st.floats(0, 100), "params": amounts, "latency": st.just("5ms")}
        ),
    },
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(recipes)
def test_any_recipe_comes_back_from_its_yaml(tmp_path, data):
    recipe = load_recipe(data)
    path = tmp_path / "again.yaml"
    path.write_text(recipe.to_yaml(), encoding="utf-8")
    again = load_recipe(path)
    assert again == recipe
    assert again.hash == recipe.hash
    assert isinstance(again, Recipe)
