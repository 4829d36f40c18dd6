"""What a computation costs: latency, CPU, memory and energy; and where it was measured."""
