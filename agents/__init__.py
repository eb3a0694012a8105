"""What drives and what learns: expert, recordings, imitation, rollouts, metrics."""
