"""Axioms: does the map obey the laws that it was derived from?"""
