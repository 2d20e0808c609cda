"""Options of the smallest run of a training command."""

CLASSES = 4
NETWORK = ["--model", "test_resnet", "--input-size", "32"]
RUN = ["--batch-size", "8", "--workers", "0", "--threads", "1"]
FRONT = ["w2a2", "w3a3", "w4a4"]
