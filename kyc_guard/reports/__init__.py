"""What is shown to people: error rates, evaluation reports, the demo page."""
