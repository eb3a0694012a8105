"""What drives, the loop it drives in, and what is measured."""
