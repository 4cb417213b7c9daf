"""What methods and metrics put in place of pixels: baselines, masks and noise."""
