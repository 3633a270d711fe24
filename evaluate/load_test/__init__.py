"""Load scenarios: arrivals, throughput, and the highest rate that keeps a latency bound."""
