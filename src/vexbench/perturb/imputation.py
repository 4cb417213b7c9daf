"""Images in which chosen pixels are replaced: by a baseline, or by what their neighbours suggest."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import repeat

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy.sparse import csr_array, diags_array, kron
from scipy.sparse.linalg import splu

from vexbench.errors import unknown
from vexbench.perturb.baselines import BASELINES, baseline
from vexbench.perturb.noise import gaussian
from vexbench.probe import Probe
from vexbench.types import Images, Masks

NOISY_LINEAR = "noisy_linear"
FILLS = (*BASELINES, NOISY_LINEAR)
"""What may stand in for hidden pixels: `noisy_linear` hangs on the mask, the others do not."""


def filled(probe: Probe, masks: Iterable[Masks], name: str, *, noise: float = 0.01) -> Iterator[Images]:
    """The probe's images, in [0, 1], with the pixels where a mask is 0 replaced.

    By a baseline (`perturb.baselines`), or by noisy linear imputation (Rong et al. 2022): `linear`, and Gaussian noise
    of standard deviation `noise` on the replaced pixels, one draw per image for all masks and methods.

    Raises
    ------
    VexbenchError
        A name that does not exist.
    """
    if name not in FILLS:
        raise unknown("baseline", name, FILLS)
    if name != NOISY_LINEAR:
        fixed = baseline(probe, name)
        return (torch.where(mask[:, None] > 0, probe.images, fixed) for mask in masks)
    (draw,) = gaussian(probe, 1)
    return (
        torch.where(mask[:, None] > 0, probe.images, (linear(probe.images, mask) + noise * draw).clamp(0, 1))
        for mask in masks
    )


def linear(images: Images, masks: Masks) -> Images:
    """Each pixel where the mask is 0 as the weighted mean of its eight neighbours, hidden ones included.

    x_i = Σ_j w_ij x_j / Σ_j w_ij, with w = 1/6 for direct and 1/12 for diagonal neighbours (Rong et al. 2022): one
    sparse linear system per image for all hidden pixels, factorised once for the three colours, solved exactly in
    double. At the border the weights of neighbours outside the image go to the others in proportion, as in the paper's
    code. Where everything is hidden any constant solves it: the image's mean colour is taken.
    """
    # scipy works outside of the interpreter's lock
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        solved = pool.map(
            _solved,
            images.detach().double().flatten(2).transpose(1, 2).cpu().numpy(),
            (masks == 0).flatten(1).cpu().numpy(),
            repeat(images.shape[2:]),
        )
        rows = torch.from_numpy(np.stack(list(solved)))
    return rows.transpose(1, 2).reshape(images.shape).to(images)


def _solved(colours: Float[np.ndarray, "HW 3"], hidden: np.ndarray, size: tuple[int, int]) -> Float[np.ndarray, "HW 3"]:
    if hidden.all():
        return np.broadcast_to(colours.mean(0), colours.shape)
    if not hidden.any():
        return colours
    equations, order = _equations(*size)
    colours, hidden = colours[order], hidden[order]
    rows = equations[hidden]
    right = -(rows @ np.where(hidden[:, None], 0, colours))
    # symmetric and positive definite: no pivots needed, and the pixels are in a good order already
    factors = splu(
        rows[:, hidden].tocsc(),
        permc_spec="NATURAL",
        diag_pivot_thresh=0,
        panel_size=1,
        options={"SymmetricMode": True},
    )
    solution = np.empty_like(colours)
    solution[order[hidden]] = factors.solve(right)
    solution[order[~hidden]] = colours[~hidden]
    return solution


@lru_cache(maxsize=2)
def _equations(height: int, width: int) -> tuple[csr_array, np.ndarray]:
    """Σ_j w_ij (x_i − x_j) for each pixel i of an image, and the order of the pixels in which that stands.

    The order is nested dissection (George 1973): few entries fill up when it is factorised, also for a part of the
    pixels.
    """
    # of the pixel itself, too: its weight cancels
    down, across = (csr_array(np.eye(k) * 2 + np.eye(k, k=1) + np.eye(k, k=-1)) for k in (height, width))
    weights = csr_array(kron(down, across)) / 12
    order = np.array(_dissected(np.arange(height * width).reshape(height, width)))
    return csr_array(csr_array(diags_array(weights.sum(1)) - weights)[order][:, order]), order


def _dissected(pixels: Int64[np.ndarray, "h w"]) -> list[int]:
    """Both halves before the line that parts them."""
    if pixels.size <= 16:
        return pixels.ravel().tolist()
    along = pixels if pixels.shape[0] >= pixels.shape[1] else pixels.T
    middle = len(along) // 2
    return _dissected(along[:middle]) + _dissected(along[middle + 1 :]) + along[middle].tolist()
