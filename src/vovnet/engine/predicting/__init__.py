"""The parts of `vovnet.engine.detector`: sources, detection, results, drawing, and which runtime runs it."""
