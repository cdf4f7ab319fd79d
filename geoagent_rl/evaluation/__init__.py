"""Numbers of evaluation: locate, predictions, metrics, intervals, calibration."""
