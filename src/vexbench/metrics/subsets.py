"""Faithfulness over random subsets of pixels: do attributions and changes of the score go together?"""
