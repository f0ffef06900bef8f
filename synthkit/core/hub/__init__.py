"""Datasets on the Hugging Face Hub: found, checked before anything is fetched, pinned by commit, read as a table."""

from synthkit.core.hub.client import HubClient
from synthkit.core.hub.faults import explain_error
from synthkit.core.hub.listing import DatasetInfo, HubFile, Match

__all__ = ["DatasetInfo", "HubClient", "HubFile", "Match", "explain_error"]
