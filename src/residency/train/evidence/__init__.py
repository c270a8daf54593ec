"""How good a network is, proven on persons that it did not learn from: cases, figures, intervals, a card."""
