"""Checks of the exercises: `check.psnr(my_psnr)` prints *not attempted yet*, *passed*, or what is wrong and a hint.

A check works offline, is deterministic, and never raises, so a notebook with open exercises runs top to bottom.
"""

from .benchmarking import bd_rate, bootstrap, copies, set_psnr
from .binary_autoencoder import code_length, entropy, largest, thermometer
from .data_preparation import luma, patch_count, psnr, split, tiles, turn
from .examine import usable
from .jpeg_restorer import blocking, bounded, dct, interval, learning_rate, round_trip
from .rescsnet import consistent, measurements, quantizer, signed_psnr, similarity
from .srcnn import loss_border, multiply_adds, parameters, receptive_field

__all__ = [
    "bd_rate",
    "blocking",
    "bootstrap",
    "bounded",
    "code_length",
    "consistent",
    "copies",
    "dct",
    "entropy",
    "interval",
    "largest",
    "learning_rate",
    "loss_border",
    "luma",
    "measurements",
    "multiply_adds",
    "parameters",
    "patch_count",
    "psnr",
    "quantizer",
    "receptive_field",
    "round_trip",
    "set_psnr",
    "signed_psnr",
    "similarity",
    "split",
    "thermometer",
    "tiles",
    "turn",
    "usable",
]
