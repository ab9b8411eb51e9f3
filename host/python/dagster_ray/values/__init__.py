"""Values in pickled form, and the places that keep them.

A component decides on keys and lifetimes; what is here moves bytes for it and knows neither.
"""
