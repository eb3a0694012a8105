"""`wormwheel drive`: a local page on which a person drives, hands over to a policy, and takes back."""
