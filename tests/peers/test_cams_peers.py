"""CAMs of pytorch-grad-cam and torchcam where an in-place ReLU follows the target layer."""

import agreement_cams
import agreement_table as table
import pytest
import torch
from torch import nn
from torch.nn import functional

import vexbench as vb

PAIRS = [pair for pair in agreement_cams.PAIRS if pair.method in ("xgrad_cam", "finer_cam", "eigen_cam")]


class Overwritten(nn.Module):
    """Like torchvision's densenets: a functional ReLU behind the target layer, in place or not."""

    def __init__(self):
        super().__init__()
        self.inplace, self.features = True, nn.Conv2d(3, 12, 3, stride=2)
        self.hidden, self.head = nn.Conv2d(12, 8, 3), nn.Linear(8, 5)

    def forward(self, images):
        features = functional.relu(self.features(images), inplace=self.inplace)
        return self.head(self.hidden(features).relu().mean((2, 3)))


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair.method}-{pair.library}")
def test_libraries_see_features_that_an_in_place_relu_has_overwritten(pair):
    """That is why they differ on densenet121: what they record is a view of what the ReLU then clears.

    Without the in-place ReLU, which changes nothing in the network, theirs are ours; ours are the same with it.
    """
    pytest.importorskip(table.LIBRARIES[pair.library], reason=f"{pair.library} is not installed", exc_type=ImportError)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Overwritten().eval()
    case = table.case_of(vb.Classifier(network, target_layer="features"), table.blobs(2, 32))
    ours, theirs = [], []
    for network.inplace in (True, False):
        ours.append(vb.explain(*case, pair.method, **pair.ours))
        theirs.append(pair.maps(*case))
    assert torch.equal(*ours)
    assert table.correlations(ours[0], theirs[0]).min() < 0.999
    assert table.correlations(ours[0], theirs[1]).min() > 0.9999
