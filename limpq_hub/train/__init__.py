"""LEARN the bits: joint training, fine-tuning and their measurement; each command has one `main(argv)`."""
