"""Linear recurrences over time, x_t = a_t x_{t−1} + b_t elementwise, for whole sequences at once."""
