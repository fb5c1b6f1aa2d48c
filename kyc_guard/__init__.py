"""Face-attack and liveness detection for KYC, behind one verification pipeline."""
