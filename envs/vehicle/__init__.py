"""What moves: the kinematic bicycle and PyBullet's racecar."""
