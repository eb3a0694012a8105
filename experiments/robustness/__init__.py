"""What drivers do when the world is not as they know it: suites, jobs, figures and a page; see `verb`."""
