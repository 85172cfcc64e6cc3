"""The networks, one file per system; `build` makes one from the plain data of a recipe."""

# ruff: noqa: F401 – whoever uses a network finds it here
from torch import nn

from ..service.errors import require
from . import originals
from .base import Ensemble, Restorer, multiply_adds
from .binary_autoencoder import NPEG, FactorizedCodec, TransformAutoencoder
from .detail import DetailLayer
from .jpeg_restorer import ARCNN, ConvUnits, DRUNet
from .rescsnet import ResCSNet, ResCSNetAny
from .srcnn import EDSR, FSRCNN, SRCNN, SkylineSRCNN

KINDS: dict[str, type[nn.Module]] = {
    "srcnn": SRCNN,
    "skyline": SkylineSRCNN,
    "fsrcnn": FSRCNN,
    "edsr": EDSR,
    "conv-units": ConvUnits,
    "arcnn": ARCNN,
    "drunet": DRUNet,
    "npeg": NPEG,
    "factorized": FactorizedCodec,
    "transform": TransformAutoencoder,
    "detail": DetailLayer,
    "rescsnet": ResCSNet,
    "rescsnet-any": ResCSNetAny,
}


def build(kind: str, **options) -> nn.Module:
    """A network with fresh weights: `build("srcnn", scale=3, kernels=(9, 1, 5))`. Raises CourseError."""
    require(kind in KINDS, f"no network is called {kind!r}; there are {', '.join(KINDS)}.")
    return KINDS[kind](**options)
