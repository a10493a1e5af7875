"""What is measured against peers, and the scripts that do it."""
