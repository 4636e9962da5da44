"""The bridge on one machine: an AWS emulator, an AiTEMS emulator and the command line. Never shipped."""
