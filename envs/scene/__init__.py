"""What there is to see: ground, lines, horizon, light."""
