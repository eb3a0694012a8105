"""A verdict that a pipeline can act on: is this policy as good as the released one, and does it keep what is required?

See `verb` for the command, `pytest_plugin` for the fixture `drive`, `calibration` for how often the gate errs.
"""
