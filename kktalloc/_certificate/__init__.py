"""Judges of an allocation, independent of the engines: certificate, dual bound, prices, CVXPY twin."""
