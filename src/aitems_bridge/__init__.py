"""The bridge from AWS to AiTEMS: one request, at most one service, exactly one recorded outcome."""
