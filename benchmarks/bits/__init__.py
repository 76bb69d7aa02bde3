"""What a choice of bits is worth: accuracy, predicted latency, stable sensitivities, and how long a choice without data takes."""
