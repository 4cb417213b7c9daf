"""Shortcuts: does the map tell on a cue that the network is known to rely on?"""

from vexbench.metrics.localisation import share_of_mass
from vexbench.registry import metric
from vexbench.types import Maps, Regions, Scores


@metric(
    family="axiomatic",
    title="Shortcut detection",
    paper="Yang & Kim 2019, arXiv:1907.09701; Adebayo et al. 2020, arXiv:2011.05429",
    direction="higher",
)
def shortcut_detection(maps: Maps, cues: Regions) -> Scores:
    """Share of the map's positive values that lies on a planted cue: Σ_cue ReLU(Φ) / Σ ReLU(Φ).

    Higher is better only for a network that is known to rely on the cue, such as the embedded `shortcut`, and for the
    class that the cue speaks for; for one that does not, it is the share that any map gives to so small a place. So,
    as all axioms, it does not enter a study's ranking.
    Values below zero do not count. NaN where the image has no cue, and for a map without positive values.
    """
    return share_of_mass(maps, cues)
