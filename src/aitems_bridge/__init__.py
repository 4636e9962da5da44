"""The bridge from AWS to AiTEMS: one request, at most one service, exactly one recorded outcome."""

import gc

# What a function imports, it keeps. Looking through all of it for garbage every few hundred objects is a twelfth of a
# cold start; what a request leaves behind is little, and still collected.
gc.set_threshold(100_000)
