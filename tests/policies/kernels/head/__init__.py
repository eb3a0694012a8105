"""The conv head's kernel against torch."""
