"""What Mailroom's speed is measured with: ratios, side by side in one run, medians of interleaved rounds."""
