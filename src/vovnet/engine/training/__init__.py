"""The parts of `vovnet.engine.train`: start, data, network, optimizer, steps, length, log, checkpoint."""
