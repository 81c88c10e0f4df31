"""What must not be kept: finders of secrets and of personal data, one file per way of knowing them."""
