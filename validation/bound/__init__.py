"""Study `bound`: every term of the convergence bound beside what it bounds, measured on runs of the algorithm.

`quadratics` have exactly known constants; `training` is real federated training with measured ones. Both yield
`terms.Round` objects, from which `terms` computes both sides.
"""
