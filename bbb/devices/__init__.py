"""Devices, hosts and threads."""
