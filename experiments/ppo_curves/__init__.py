"""Learning curves of PPO: `python -m experiments.ppo_curves`."""
