"""Passes counted ahead are those that are paid; where they are not, it is said here."""

import pytest
import torch

import vexbench as vb
from vexbench.bench import gauge as gauging
from vexbench.bench import pace, price
from vexbench.bench.estimate import Place, estimate
from vexbench.bench.gauge import Gauge
from vexbench.bench.plan import plan
from vexbench.bench.price import Call, in_company
from vexbench.explaining import maps_of, reexplain, scores_of
from vexbench.probe import Probe
from vexbench.registry import METHODS, METRICS

METHOD_SETTINGS = {
    "integrated_gradients": {"steps": 6},
    "expected_gradients": {"samples": 6},
    "guided_ig": {"steps": 24},
    "blur_ig": {"steps": 6},
    "idgi": {"steps": 6},
    "ss_cam": {"samples": 3},
    "is_cam": {"steps": 3},
    "smooth_grad_cam_plus_plus": {"samples": 6},
    "rise": {"masks": 48},
    "sobol": {"samples": 8, "cells": 3},
    "extremal_perturbation": {"steps": 6, "cells": 6},
    "smooth_grad": {"samples": 6},
    "smooth_grad_squared": {"samples": 6},
    "var_grad": {"samples": 6},
    "lime": {"samples": 24, "segments": 9},
    "kernel_shap": {"samples": 24, "segments": 9},
    "deep_lift_shap": {"samples": 3},
}
METRIC_SETTINGS = {
    "sensitivity_n": {"samples": 12},
    "mprt": {"stages": 2},
    "smooth_mprt": {"samples": 6, "stages": 2},
    "irof": {"segments": 9},
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=2, padding=1),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 6, 3, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(6, 6),
    )
    methods = [{"name": name, **METHOD_SETTINGS.get(name, {})} for name in METHODS]
    metrics = [{"name": name, **METRIC_SETTINGS.get(name, {})} for name in METRICS]
    return plan(
        vb.StudyConfig(
            datasets=[{"name": "scenes", "per_class": 2}],
            models=[vb.Classifier(network, input_size=32)],
            methods=methods,
            metrics=metrics,
            out=tmp_path_factory.mktemp("study"),
        )
    )


@pytest.fixture(scope="module")
def gauge(study):
    return Gauge(study, study.groups[0])


def choice_of(choices, name):
    return next(choice for choice in choices if choice.name == name)


def counted(passes, images):
    return tuple(count / images for count in (passes.forward, passes.backward, passes.partial))


def paid(gauge, choice, images=8):
    """What one explanation of some images counts."""
    probe = Probe(gauge.real, gauge.images[:images], [0] * images)
    maps_of(probe, choice)
    return counted(probe.passes, images)


@pytest.mark.parametrize("soon", [1e9, 0.0], ids=["in full", "from a few samples"])
@pytest.mark.parametrize("name", METHODS)
def test_passes_of_a_method_are_those_paid(name, soon, study, gauge, monkeypatch):
    monkeypatch.setattr(gauging, "SOON", soon)
    choice = choice_of(study.methods, name)
    found = gauge.method(choice)
    if name == "attention_map":
        assert found.reason.startswith("this network has no attention block")
        return
    assert found.reason == ""
    # a reference that stands for a whole batch has one pass, however many images there are
    images = pace.FEW if name.startswith("deep_lift") else 8
    assert tuple(found.again[2:]) == pytest.approx(paid(gauge, choice, images))


@pytest.mark.parametrize("name", METRICS)
def test_passes_of_a_metric_are_those_paid(name, study, gauge, monkeypatch):
    """Own passes, those asked once for all methods, and the explanations asked for."""
    monkeypatch.setattr(gauging, "LATE", 1e9)
    choice, method = choice_of(study.metrics, name), choice_of(study.methods, "input_x_gradient")
    found = gauge.metric(choice)
    # it tries once for a whole batch whether the network takes a mosaic
    images = pace.FEW if name == "grid_pointing_game" else 8
    given = {"regions": gauge._regions(images), "cues": gauge._regions(images), "references": gauge._references}
    probe = Probe(gauge.real, gauge.images[:images], [0] * images)
    maps = maps_of(probe, method)
    probe.logits, probe.trace, probe.clean(), probe.clean("probability")  # known to all by then
    probe.passes.forward = probe.passes.backward = probe.passes.partial = 0
    if name in ("data_randomisation", "f_fidelity"):  # there is no twin and no copy of this network
        assert "of this network" in found.reason
        return
    if name == "shortcut_detection":
        assert "no shortcut" in found.reason
        return
    scores_of(choice, maps, probe, explain=reexplain(method), **given)
    total = found.own
    for once in (found.once or {}).values():
        total = total.plus(once)
    priced = gauge.method(method)
    if METRICS[name].family != "cost":  # those explain on probes of their own
        for calls in (found.asks or {}).values():
            total = total.plus(priced.asked(calls))
    assert tuple(total[2:]) == pytest.approx(counted(probe.passes, images))


def test_explanations_that_metrics_share_are_paid_once(study):
    found = estimate(study)
    bill = found.bills[0]
    method = [choice.name for choice in study.methods].index("smooth_grad")
    names = [choice.name for choice in study.metrics]
    pair = [names.index("max_sensitivity"), names.index("average_sensitivity")]
    (_, first), (_, second) = bill.cells(method, pair)
    priced = bill.metrics[pair[0]]
    shared = sum(bill.asks(method, key, calls) for key, calls in (priced.asks or {}).items())
    assert shared > 0
    assert first == pytest.approx(bill.own[pair[0]] + shared)
    assert second == bill.own[pair[1]]
    assert dict(bill.cells(method, pair[1:]))[pair[1]] == pytest.approx(second + shared)
    # by passes, which no busy machine moves: the explanations are most of the price
    assert bill.passes(method, pair[0]) > 2 * (priced.own.forward + priced.own.backward)


def test_what_is_left_out_was_dearest_and_the_rest_fits(study):
    found = estimate(study)
    total = found.seconds()
    dropped = found.fitted(0.7 * total)
    assert dropped
    assert found.seconds(dropped) <= 0.7 * total
    passes = {place: count for place, _, count in found.table()}
    methods = {place.method for place in passes} - {place.method for place in dropped}
    assert methods, "some methods are left"
    priced = {place: seconds for place, seconds, _ in found.table()}
    assert max(priced, key=priced.get) in dropped
    again = found.fitted(0.7 * total, done=dropped[:1])
    assert dropped[0] not in again


def test_results_that_share_explanations_go_together(study):
    found = estimate(study)
    names = [choice.name for choice in study.metrics]
    sharing = {names.index(name) for name in names if "sensitivity" in name and name != "sensitivity_n"}
    units = {
        frozenset(place.metric for place in unit)
        for unit in found._sharing(found.bills[0], [Place(0, 0, m) for m in range(len(names))])
    }
    assert any(sharing <= unit for unit in units)


def test_an_attack_without_a_gradient_takes_no_graphs():
    several = price.Price(forward=100.0)
    calls = [Call(1.0, 1.0, connected, False) for connected in (False, True, False, True, False)]
    dear = price.MethodPrice(several, several, several)
    assert dear.asked(calls).forward == 300
    none = price.MethodPrice(price.Price(forward=2.0), price.Price(forward=2.0), None)
    assert none.asked(calls).forward == 8


def test_methods_that_look_at_one_layer_share_what_others_ask(study, gauge):
    names = "grad_cam", "layer_cam", "hires_cam", "saliency"
    metric = choice_of(study.metrics, "max_sensitivity")
    found = in_company([gauge.method(choice_of(study.methods, name)) for name in names])
    asks = (gauge.metric(metric).asks or {}).values()
    told = [sum(price.asked(calls).forward for calls in asks) for price in found]
    images = 8
    probe, before, taken = Probe(gauge.real, gauge.images[:images], [0] * images), 0, []
    for name in names:
        choice = choice_of(study.methods, name)
        maps = maps_of(probe, choice)
        before = probe.passes.forward
        scores_of(metric, maps, probe, explain=reexplain(choice))
        taken.append((probe.passes.forward - before) / images)
    assert taken[1:3] == [0, 0]
    assert sum(told) == pytest.approx(sum(taken))
    assert told[:3] == pytest.approx([taken[0] / 3] * 3)
