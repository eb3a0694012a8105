"""Writing recordings in the formats that others read; each target writes one episode at a time and can be resumed."""
