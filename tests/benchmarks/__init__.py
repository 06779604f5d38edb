"""What `make bench` runs: figures from one run of this tree, side by side, written into docs/."""
