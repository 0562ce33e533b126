"""A colour histogram as a backbone. Nothing is imported here: listing its models must cost nothing."""
