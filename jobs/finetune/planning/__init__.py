"""What fine-tuning would take, before anything is loaded: memory, time, cost, and what would fit."""
