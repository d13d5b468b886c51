"""Reuse in the loop: a model's products are computed from substitutes, in training and evaluation.

The path of a call: `interceptor` sees it and names its product, `product` computes the three passes
by the extension module, `session` holds what is known between steps.
"""
