"""Learning by trial and error: recurrent PPO."""
