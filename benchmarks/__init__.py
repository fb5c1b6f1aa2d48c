"""What ships, judged: error rates against other systems, and speed. Imports kyc_guard only."""
