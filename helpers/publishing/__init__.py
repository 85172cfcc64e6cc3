"""The maintainers' part: the measured tables of `data/results`, and the cards of `data/weights`."""
