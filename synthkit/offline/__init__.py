"""The embedded default: a Hub with real data and a scripted teacher on loopback, reached only by base URL."""
