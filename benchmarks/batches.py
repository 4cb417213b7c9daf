"""How much an image's input gradients depend on how many images are in the pass; see docs/decisions/0008."""

import torch
from torchvision import models

from vexbench.models.networks import PlainCNN

IMAGES, SIZES = 64, (1, 2, 3, 4, 7, 8, 12, 16, 32)


def gradients(network: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    leaf = images.clone().requires_grad_()
    network(leaf)[:, 0].sum().backward()
    assert leaf.grad is not None
    return leaf.grad


torch.manual_seed(0)
networks = {
    "plain_cnn, 96 px": (PlainCNN(6), 96),
    "resnet18, 150 px": (models.resnet18(num_classes=6), 150),
    "mobilenet_v3_small, 96 px": (models.mobilenet_v3_small(num_classes=6), 96),
}
print(f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}")
print("| images per pass |", " | ".join(networks), "|")
print("|---|" + "---|" * len(networks))
rows = {size: list[str]() for size in SIZES}
for network, side in networks.values():
    images = torch.rand(IMAGES, 3, side, side)
    together = gradients(network.eval(), images)
    for size, row in rows.items():
        apart = torch.cat([gradients(network, few) for few in images.split(size)])
        error = ((apart - together).abs().amax((1, 2, 3)) / together.abs().amax((1, 2, 3))).max()
        row.append("equal" if error == 0 else f"{float(error):.0e}")
for size, row in rows.items():
    print(f"| {size} |", " | ".join(row), "|")
