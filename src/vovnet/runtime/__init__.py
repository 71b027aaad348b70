"""Runs exported detectors with ONNX Runtime, OpenVINO or MNN, without PyTorch."""
