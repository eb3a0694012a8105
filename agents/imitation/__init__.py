"""Learning from recorded driving."""
