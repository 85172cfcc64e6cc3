"""Checks of the exercises: `check.psnr(my_psnr)` prints *not attempted yet*, *passed*, or what is wrong and a hint.

A check works offline, is deterministic, and never raises, so a notebook with open exercises runs top to bottom.
"""
# ruff: noqa: F401 – the names below are what notebooks call

from .benchmarking import bd_rate, bootstrap, copies, set_psnr, seven_numbers
from .binary_autoencoder import code_length, entropy, factorized, known, largest, npeg
from .build import weights
from .data_preparation import luma, patch_count, psnr, split, tiles, turn
from .examine import usable
from .jpeg_restorer import arcnn, blocking, bounded, conv_units, halo, interval, learning_rate, round_trip, unet
from .progress import progress
from .rescsnet import block_sensing, consistent, measurements, quantizer, recovery, wavelet_index
from .srcnn import edsr, fsrcnn, loss_border, multiply_adds, receptive_field, sight, skyline
