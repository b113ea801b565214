"""A picture of a spectrum, its continuum, and what is left when that is divided out."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from astra_dagster.errors import AstraError, OutputError
from astra_dagster.spectra.batch import BoolArray, FloatArray, SpectrumBatch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GAP = 20.0
"""Pixels further apart than so many typical steps are not joined by a line."""


def preview(batch: SpectrumBatch, row: int = 0, title: str = "") -> "Figure":
    """Draw one spectrum of a batch: flux with continuum above, normalised flux below; bad pixels are marked.

    Parameters
    ----------
    batch
        With wavelengths; without a continuum there is one panel.
    row
        Which spectrum.
    title
        Written above.

    Raises
    ------
    AstraError
        If there is no such spectrum, or it has no wavelengths.
    """
    from matplotlib.figure import Figure  # slow to import, and only for pictures

    if batch.wavelength is None or not 0 <= row < len(batch):
        raise AstraError(
            "the spectrum cannot be drawn", hint=f"choose a row from 0 to {len(batch) - 1}, read with wavelengths"
        )
    one = batch[row]
    wavelength = np.broadcast_to(batch.wavelength, batch.flux.shape)[row]
    flux, bad = one.flux[0], one.bad[0]
    panels = 1 if one.continuum is None else 2
    figure = Figure(figsize=(11, 3.2 * panels), layout="constrained")
    axes = figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0]
    if one.continuum is not None:
        continuum = np.where(bad & (flux == 1.0), np.nan, one.continuum[0])
        _line(axes[0], wavelength, flux * continuum, bad, f"flux [{batch.continuum_unit}]")
        axes[0].plot(wavelength, _broken(wavelength, continuum), color="C1", linewidth=1.2, label="continuum")
        axes[0].legend(loc="upper right", frameon=False, ncols=3)
    _line(axes[-1], wavelength, flux, bad, "normalised flux" if panels == 2 else f"flux [{batch.unit}]")
    if panels == 2:
        axes[-1].axhline(1.0, color="C1", linewidth=0.8)
    axes[-1].set_xlabel("vacuum wavelength [Angstrom]")
    axes[-1].margins(x=0.01)
    if title:
        figure.suptitle(title, fontsize="medium")
    return figure


def save_preview(figure: "Figure", path: Path) -> None:
    """Write a figure; the ending of the name says how: png, pdf, svg.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    try:
        figure.savefig(path, dpi=110, metadata={"Software": None} if path.suffix == ".png" else None)
    except (OSError, ValueError) as error:
        raise OutputError(f"the picture cannot be written: {error}", path=path) from error


def _line(axes: "Axes", wavelength: FloatArray, flux: FloatArray, bad: BoolArray, label: str) -> None:
    shown = np.where(bad, np.nan, flux)
    low, high = np.nanpercentile(shown, (0.1, 99.9)) if not bad.all() else (0.0, 1.0)
    room = 0.15 * (high - low or 1.0)
    axes.plot(wavelength, _broken(wavelength, shown), color="0.15", linewidth=0.5, label="flux")
    axes.set_ylim(low - room, high + room)
    axes.plot(
        wavelength[bad],
        np.full(int(bad.sum()), 0.01),
        "|",
        color="C3",
        markersize=4,
        transform=axes.get_xaxis_transform(),
        label="bad pixels",
    )
    axes.set_ylabel(label)


def _broken(wavelength: FloatArray, values: FloatArray) -> FloatArray:
    """Values with NaN at the edges of gaps, so that no line crosses them."""
    steps = np.diff(wavelength)
    shown = np.array(values, dtype=float)
    shown[np.flatnonzero(steps > GAP * np.median(steps))] = np.nan
    return shown
