"""What the camera sees: lenses, and two renderers."""
