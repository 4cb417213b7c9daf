"""Budgets: the dearest results are left out, said so wherever results are, and taken up by a larger budget."""

import numpy as np
import pytest
import torch

import vexbench as vb
from vexbench.bench import budget as budgeting
from vexbench.bench.estimate import Bill, Estimate
from vexbench.bench.plan import plan
from vexbench.bench.presets import PRESETS
from vexbench.bench.price import Call, MethodPrice, MetricPrice, Price
from vexbench.cli import main
from vexbench.registry import METHODS, METRICS, SYNTHESES
from vexbench.report import report
from vexbench.results.frame import load
from vexbench.stats.summary import summarise

DEAR = {"smooth_grad": 2.0}
"""Seconds of an explanation of an image; others take a hundredth."""


@pytest.fixture(scope="module")
def classifier() -> vb.Classifier:
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(6, 6),
    )
    return vb.Classifier(network, input_size=32)


@pytest.fixture
def config(classifier, tmp_path, monkeypatch):
    monkeypatch.setattr(budgeting, "estimate", priced)

    def make(**changes) -> vb.StudyConfig:
        settings = {
            "datasets": [{"name": "scenes", "per_class": 1}],
            "models": [classifier],
            "methods": ["cam", {"name": "smooth_grad", "samples": 3}, "random"],
            "metrics": [{"name": "max_sensitivity", "samples": 2}, "sparseness", {"name": "deletion", "steps": 4}],
            "out": tmp_path / "study",
        }
        return vb.StudyConfig(**{**settings, **changes})

    return make


def priced(study):
    """Six images: 12 s for the maps of SmoothGrad and 24 s for its sensitivity, 1 s for others, 2 s in any case."""
    methods = [Price(0.0, DEAR.get(choice.name, 0.02), 3.0) for choice in study.methods]
    asks = {"draws": (Call(1.0, 1.0, False, False),) * 2}
    metrics = [
        MetricPrice(reason="no cue")
        if choice.name == "shortcut_detection"
        else MetricPrice(Price(0.0, 1 / 6), asks=asks if choice.name == "max_sensitivity" else None)
        for choice in study.metrics
    ]
    bills = [
        Bill(group, tuple(MethodPrice(price, price) for price in methods), tuple(metrics), 2.0, 0.0, 0.0, 0.0, 0.001)
        for group in study.groups
    ]
    return Estimate(study, tuple(bills), 0.0)


def never(study):
    raise AssertionError("priced again")


def left_out(result):
    frame = result.frame()
    noted = frame.filter(frame["note"] == "over budget")
    assert noted["score"].null_count() == len(noted)
    return {(method, metric) for method, metric in noted.select("method", "metric").iter_rows()}


def test_a_share_of_the_work_is_one_of_its_price(config):
    shares = {}
    vb.run(config(budget="25s"), progress=lambda _, done, total, share: shares.update({done: share}))
    # seconds of each result with its part of the maps; the one that is left out is settled at no cost
    cheap, dear = [1.24 + 0.04, 1.04, 1.04], [0.0, 7.0, 7.0]
    assert [*shares.values()] == pytest.approx(np.cumsum([0.0, *cheap, *dear, *cheap]) / 20.72)


def test_unpriced_results_are_all_the_same_work(config):
    shares = {}
    vb.run(config(), progress=lambda _, done, total, share: shares.update({done: share}))
    assert shares == pytest.approx({done: done / 9 for done in range(10)})


def test_what_costs_most_is_left_out_and_said_so(config, monkeypatch, capsys):
    told = []
    result = vb.run(config(budget="25s"), told=told.append)
    assert left_out(result) == {("smooth_grad", "max_sensitivity")}
    (line,) = told
    assert "1 of 9 results are left out" in line
    assert line.endswith("Over budget: max_sensitivity (1 method).")
    study = load(result.out)
    assert study.pending == ()
    (group,) = study.groups
    methods, metrics = ([record.id for record in records] for records in (group.methods, group.metrics))
    over = group.over_budget
    assert over.sum() == 1
    assert over[methods.index("smooth_grad"), metrics.index("max_sensitivity")]
    assert not group.waiting.any()
    # neither missing nor zero: the metric does not rank, and no one is worse for being dear
    ranked = [group.metrics[j].id for j in summarise(group).ranked]
    assert "max_sensitivity" not in ranked
    assert {"sparseness", "deletion"} <= set(ranked)
    monkeypatch.setattr("sys.argv", ["vexbench", "show", str(result.out)])
    with pytest.raises(SystemExit):
        main()
    shown = capsys.readouterr().out
    assert "left out: SmoothGrad, Max sensitivity: over budget (25s)" in shown
    assert "not computed" not in shown
    assert "unfinished" not in shown
    page = report(result.out).read_text()
    assert "1 over budget" in page
    assert "over budget (25s)" in page
    assert "not computed</a>" not in page


def test_a_method_may_go_as_a_whole(config):
    told = []
    result = vb.run(config(budget="9s"), told=told.append)
    assert "Over budget: smooth_grad." in told[0]
    (group,) = load(result.out).groups
    assert [(failure.method, failure.metric, failure.over_budget) for failure in group.failures] == [
        ("SmoothGrad", "", True)
    ]
    assert {method for method, _ in left_out(result)} == {"smooth_grad"}


def test_what_is_not_defined_there_keeps_no_method(config):
    """A metric that has no result would else have had the maps made for its sake."""
    told, metrics = [], ["sparseness", {"name": "deletion", "steps": 4}, "shortcut_detection"]
    result = vb.run(config(budget="9s", metrics=metrics), told=told.append)
    assert "2 of 6 results are left out" in told[0]
    assert told[0].endswith("Over budget: smooth_grad.")
    assert not [*result.out.rglob("smooth_grad*/maps*")]
    assert {method for method, _ in left_out(result)} == {"smooth_grad"}


def test_a_refused_budget_forgets_nothing(config):
    before = left_out(vb.run(config(budget="25s")))
    with pytest.raises(vb.VexbenchError, match="more than the budget of 1s"):
        vb.run(config(budget="1s"))
    assert left_out(vb.Result(config().out)) == before


def test_a_larger_budget_takes_it_up(config, monkeypatch):
    first = vb.run(config(budget="25s")).frame()
    result = vb.run(config(budget="2h"))
    assert left_out(result) == set()
    assert result.failures() == {}
    whole = vb.run(config(out=result.out.with_name("whole"))).frame()
    assert result.frame().equals(whole)
    there = first.filter(first["note"].is_null())
    assert there.join(whole, on=["method", "metric", "image"])["score"].equals(there["score"])


def test_the_same_budget_is_not_priced_again(config, monkeypatch):
    before = vb.run(config(budget="25s"))
    monkeypatch.setattr(budgeting, "estimate", never)
    assert left_out(vb.run(config(budget="25s"))) == left_out(before)


def test_notes_cut_short_by_a_kill_are_made_again(config):
    result = vb.run(config(budget="20s", metrics=["sparseness", {"name": "max_sensitivity", "samples": 2}]))
    before = left_out(result)
    for path in result.out.rglob("*failed.json"):
        path.unlink()
    assert left_out(vb.run(config(budget="20s"))) >= before


def test_a_budget_that_nothing_fits_is_refused(config):
    with pytest.raises(vb.VexbenchError, match=r"the study takes about .* more than the budget of 1s"):
        vb.run(config(budget="1s"))


@pytest.mark.parametrize("budget", ["2 hours", "0h", "h", "-3m"])
def test_a_budget_is_a_span_of_time(budget):
    with pytest.raises(vb.VexbenchError, match="a number with a unit, such as 90s, 30m or 2h"):
        vb.StudyConfig(budget=budget)


def test_a_long_study_is_announced(config, monkeypatch):
    told = []
    monkeypatch.setattr(budgeting, "LONG", 0.0)
    vb.run(config(), told=told.append)
    (line,) = told
    assert line.startswith("this will take about 48 s on this machine, most of it smooth_grad × max_sensitivity 25 s")
    told.clear()
    vb.run(config(), told=told.append)
    assert told == []  # all is there


def test_a_short_study_is_not_priced(config, monkeypatch):
    monkeypatch.setattr(budgeting, "estimate", never)
    vb.run(config())


@pytest.mark.parametrize(("seconds", "line"), [((3.0, 2.0), "scores in bf16 take 1.5 times as long"), ((2.0, 3.0), "")])
def test_bf16_that_costs_time_is_said(config, monkeypatch, seconds, line):
    taken = iter(seconds)
    monkeypatch.setattr(budgeting, "_quickest", lambda ask: (ask(), next(taken))[1])
    assert budgeting.slower(plan(config(precision="bf16")))[:37] == line
    assert budgeting.slower(plan(config())) == ""


@pytest.mark.parametrize(
    ("method", "passes"), [("smooth_grad", 25), ("rise", 4000), ("ss_cam", 640), ("score_cam", 64), ("grad_cam", 8)]
)
def test_the_guess_counts_channels_where_a_method_may_but_no_copies_twice(method, passes):
    choice = METHODS[method].bind()
    assert budgeting._guess(choice.params, budgeting._many(choice)) == passes


def test_presets_say_how_thoroughly_to_sample(config, tmp_path):
    names = {"methods": ["rise", {"name": "smooth_grad", "samples": 3}], "metrics": ["max_sensitivity", "sparseness"]}
    quick, paper = (plan(config(preset=preset, **names)) for preset in ("quick", "paper"))
    assert [study.methods[0].params["masks"] for study in (quick, paper)] == [500, 4000]
    assert [study.methods[1].params["samples"] for study in (quick, paper)] == [3, 3]  # what is said goes first
    assert [study.metrics[0].params["samples"] for study in (quick, paper)] == [3, 10]
    assert quick.methods[0].digest != paper.methods[0].digest  # the key that results are stored under
    assert quick.metrics[1].digest == paper.metrics[1].digest
    vb.run(config(preset="quick"))
    with pytest.raises(vb.VexbenchError, match="another preset"):
        vb.run(config(preset="paper"))


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_name_what_exists(preset):
    registries = (METHODS, METRICS, SYNTHESES)
    for name, settings in PRESETS[preset].items():
        entry = next(registry[name] for registry in registries if name in registry)
        assert entry.bind(**settings).params.items() >= settings.items()
    counts = np.array([len(PRESETS[name]) for name in PRESETS])
    assert (counts == counts[0]).all()
