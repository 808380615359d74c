"""The number slider: counts that no number word reaches, along a direction of the prompt embeddings."""

from countgen.number_slider.axis import NumberShift, encode_shifted
from countgen.number_slider.calibration import Calibration, find_calibration, load_calibration

__all__ = ["Calibration", "NumberShift", "encode_shifted", "find_calibration", "load_calibration"]
