"""The training loop: steps, schedules, saved states, several processes."""
