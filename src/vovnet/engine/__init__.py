"""Where data, models, losses and metrics meet: train, evaluate, predict."""
