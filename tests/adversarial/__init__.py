"""What attackers and accidents hand to each part, as generators; `-m slow` tries thousands."""
