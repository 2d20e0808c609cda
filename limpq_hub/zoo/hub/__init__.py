"""Everything that talks to a Hugging Face Hub."""
