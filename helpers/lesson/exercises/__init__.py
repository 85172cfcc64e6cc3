"""Checks of the exercises: `check.psnr(my_psnr)` prints *not attempted yet*, *passed*, or what is wrong and a hint.

A check works offline, is deterministic, and never raises, so a notebook with open exercises runs top to bottom.
"""
# ruff: noqa: F401 – the names below are what notebooks call

from .benchmarking import bd_rate, bootstrap, copies, set_psnr, seven_numbers
from .binary_autoencoder import code_length, entropy, largest, thermometer
from .data_preparation import luma, patch_count, psnr, split, tiles, turn
from .examine import usable
from .jpeg_restorer import blocking, bounded, dct, interval, learning_rate, round_trip
from .rescsnet import consistent, measurements, quantizer, signed_psnr, similarity
from .srcnn import loss_border, multiply_adds, parameters, receptive_field
