"""A recording as an env: its frames, reprojected to where the car is."""
