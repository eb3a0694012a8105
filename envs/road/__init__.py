"""Roads: curves, random roads, centre lines from files, where a point lies on them."""
