"""Any Gymnasium env with a picture as an env to drive in: names say where camera, steering, speed and offset are."""
