"""What is done to the project itself."""
