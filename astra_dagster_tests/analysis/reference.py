"""The original continuum method, spectrum by spectrum, written from its description: slow, and plain to read."""

import numpy as np


def sinusoidal_continuum(wavelength, flux, ivar, continuum_pixels, regions, period=1400.0, order=3, fill=1.0):
    """Continuum of one spectrum, shape (pixels,); a region without continuum pixels keeps the fill value.

    `continuum_pixels` are indices, increasing. The arithmetic follows the description to the letter: every sine and
    cosine from its own angle, the normal matrix pixel by pixel, the ridge from its eigenvalues.
    """
    continuum = np.full(len(wavelength), float(fill))
    for start, end in regions:
        in_region = (wavelength >= start) & (wavelength <= end)
        first, last = np.searchsorted(wavelength, [start, end])
        used = np.array([i for i in continuum_pixels if first <= i <= last], dtype=int)
        if len(used) == 0:
            continue
        columns = design(wavelength[used], period, order)
        normal = np.einsum("ip,p,jp->ij", columns, ivar[used], columns)
        right = np.einsum("ip,p->i", columns, ivar[used] * flux[used])
        normal = normal + 1e-6 * max(np.linalg.eigvalsh(normal)) * np.identity(len(normal))
        amplitudes = np.linalg.solve(normal, right)
        continuum[in_region] = amplitudes @ design(wavelength[in_region], period, order)
    return continuum


def design(wavelength, period, order):
    """Constant, then cosine and sine of each order, shape (1 + 2 order, pixels)."""
    rows = [np.ones_like(wavelength)]
    for k in range(1, order + 1):
        rows.append(np.cos(2 * np.pi * k * wavelength / period))
        rows.append(np.sin(2 * np.pi * k * wavelength / period))
    return np.array(rows)


def pixels_in(wavelength, windows):
    """Indices of the pixels in any of the windows, both ends included."""
    inside = [(wavelength >= start) & (wavelength <= end) for start, end in windows]
    return np.flatnonzero(np.any(inside, axis=0))
