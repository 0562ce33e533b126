"""Backbone Zoo."""
