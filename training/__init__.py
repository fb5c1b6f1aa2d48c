"""Training: from the shared manifest to verified ONNX files, calibrated thresholds and cards. Never shipped in the wheel."""
