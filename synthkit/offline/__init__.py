"""The embedded default: a Hub and a scripted teacher on loopback, reached only by base URL."""
