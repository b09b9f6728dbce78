"""Sizing: facts about a model, a way of serving it and the cards there are in; a `Plan` or a `Refusal` out.

Pure and standard library only. The one entry point is `estimate.estimate`.
"""
