"""Velocity of a star from where its spectrum is free of lines. NumPy only: arrays in, arrays out."""

import numpy as np

from astra_dagster.arrays import BoolArray, FloatArray

LIGHT = 299_792.458
"""Speed of light in km/s."""

LARGEST, STEP = 500.0, 1.0
"""Largest velocity that is tried, and the step, in km/s."""

SIGNIFICANT = 3.8
"""Smallest significance of a velocity that is taken for real.

In the 36 real visits of S/N > 30 those with a higher one, of K and M dwarfs and a giant, are within 9 km/s of the
survey's, and those of late M dwarfs are lower: they have no stretch that is free of lines."""


def measure_velocity(
    wavelength: FloatArray, normalised: FloatArray, bad: BoolArray, windows: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Find the velocity at which continuum windows have the highest flux.

    Parameters
    ----------
    wavelength
        Increasing wavelength in Angstrom, shape (pixels,) or (n, pixels).
    normalised
        Flux divided by a continuum that does not depend on the windows, shape (n, pixels).
    bad
        True for pixels to leave out, same shape.
    windows
        Start and end in Angstrom, in the star's rest frame, of stretches free of lines, shape (windows, 2).

    Returns
    -------
    velocity, significance
        Velocity in km/s, positive if the star recedes, and its height above all others in robust standard deviations,
        shape (n,); NaN where there is none.
    """
    velocities = np.arange(-LARGEST, LARGEST + STEP, STEP)
    centres = np.log(windows.mean(axis=1))[:, None] + np.log1p(velocities / LIGHT)
    found = np.full((2, len(normalised)), np.nan)
    for row, (flux, excluded) in enumerate(zip(normalised, bad, strict=True)):
        grid = wavelength if wavelength.ndim == 1 else wavelength[row]
        good = ~excluded
        if np.count_nonzero(good) < len(windows):
            continue
        logarithm = np.log(grid[good])
        value = np.interp(centres, logarithm, np.clip(flux[good], 0.3, 1.1), left=np.nan, right=np.nan)
        # Windows that lie in a gap at some velocity are not used at that velocity.
        after = np.minimum(np.searchsorted(logarithm, centres), len(logarithm) - 1)
        gap = logarithm[after] - logarithm[np.maximum(after - 1, 0)] > 1e-4
        usable = np.isfinite(value) & ~gap
        count = usable.sum(axis=0)
        height = np.where(usable, value, 0.0).sum(axis=0) / np.maximum(count, 1)
        height[count < len(windows) / 2] = np.nan
        if np.isfinite(height).sum() < len(height) / 2:
            continue
        best = int(np.nanargmax(height))
        middle = np.nanmedian(height)
        spread = 1.4826 * np.nanmedian(np.abs(height - middle))
        if spread > 0:
            found[:, row] = velocities[best], (height[best] - middle) / spread
    return found[0], found[1]
