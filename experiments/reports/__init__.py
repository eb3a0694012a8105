"""What all pages share: style, parts, plots."""
