"""What `make` runs and pytest does not."""
