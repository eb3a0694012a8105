"""Looking inside a driver: where it looks, what its neurons do, and why it steered as it did."""
