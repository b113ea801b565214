"""The parameter `reject`: which bits of the survey's own pixel mask make a pixel bad for a task.

A task that has it reads the mask, ``@spectrum_task(..., bitmask=True)``, and begins with
``spectra = parameters.apply_to(spectra)``. Over optical spectra its parameters have the mask, and the default, of
those: ``_mask = BOSS`` and ``reject: tuple[str, ...] = parameter(BOSS_REJECTED, omit_default=True)``.

Over mwm files, which hold a star's spectra from BOSS and from APOGEE, the parameter `instrument` comes before: it says
which of them are read, ``@spectrum_task(..., options=["instrument"])``, and so which mask they have.
"""

from astra_dagster.errors import ParameterError, nearest
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.spectra.pixel_flags import APOGEE, APOGEE_REJECTED, order_names
from astra_dagster.spectra.products.mwm import MASK_NAMES
from astra_dagster.tasks.parameters import Parameters, parameter


class RejectingParameters(Parameters):
    """Parameters of tasks over APOGEE spectra that leave out pixels by the bits of their mask.

    Attributes
    ----------
    reject
        Names of the bits of the survey's pixel mask for which pixels are bad, in any order: by default those that the
        survey rejects, with none of them only pixels without usable flux and error. A text holds several with commas.

    Raises
    ------
    UnknownFlagError
        If the mask has no bit of a name.
    """

    _mask = APOGEE
    reject: tuple[str, ...] = parameter(APOGEE_REJECTED, omit_default=True)

    def __post_init__(self) -> None:
        given: object = self.reject
        if isinstance(given, str):
            names = tuple(name for name in map(str.strip, given.split(",")) if name)
            object.__setattr__(self, "reject", names)
        super().__post_init__()
        object.__setattr__(self, "reject", order_names(self._mask, self.reject))

    def apply_to(self, spectra: SpectrumBatch) -> SpectrumBatch:
        """Return spectra of which those pixels are bad that `reject` names, beside those without usable values.

        Spectra that were made in memory and have no mask stay as they are where `reject` has its default.

        Raises
        ------
        UnknownFlagError
            If the mask of the spectra has no bit of a name.
        AnalysisError
            If other bits are rejected so far, and the spectra were read without their mask.
        """
        if not spectra.mask_name and self.reject == type(self).reject:
            return spectra
        return spectra.rejecting(self.reject)


class InstrumentParameters(RejectingParameters):
    """Parameters of tasks over mwm files.

    Attributes
    ----------
    instrument
        Whose spectra are taken, "APOGEE" or "BOSS": of several, the first of which the file has spectra. A text holds
        several with commas.
    reject
        Names of the bits of the instrument's pixel mask for which pixels are bad: by default none, as bad pixels
        have no weight already. Each instrument has bits of its own, so it needs `instrument` to be one alone.
    """

    instrument: tuple[str, ...] = ("APOGEE", "BOSS")
    reject: tuple[str, ...] = parameter((), omit_default=True)

    def __post_init__(self) -> None:
        given: object = self.instrument
        names = given.split(",") if isinstance(given, str) else given
        if not isinstance(names, (tuple, list)) or not names:
            raise ParameterError(f"instrument cannot be {given!r}", hint=f"expected {' or '.join(MASK_NAMES)}")
        chosen = tuple(dict.fromkeys(str(name).strip().upper() for name in names))
        for name in chosen:
            if name not in MASK_NAMES:
                raise ParameterError(f"instrument cannot be {name!r}", hint=nearest(name, MASK_NAMES))
        object.__setattr__(self, "instrument", chosen)
        if self.reject and len(chosen) > 1:
            hint = f"set instrument={chosen[0]}, for example: the mask of each instrument has other bits"
            raise ParameterError("reject needs one instrument", hint=hint)
        object.__setattr__(self, "_mask", MASK_NAMES[chosen[0]])
        super().__post_init__()
