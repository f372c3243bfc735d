"""Stages, rounds and steps: orchestration only, no mathematics."""
