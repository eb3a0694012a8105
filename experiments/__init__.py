"""What a person runs: one file per verb of the `wormwheel` command."""
