"""What must not be kept: secrets and personal data, one file per way of knowing them."""
