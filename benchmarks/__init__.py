"""Benchmarks: what the shipped package reaches and costs, measured. Imports `kyc_guard` only, never training, never torch."""
