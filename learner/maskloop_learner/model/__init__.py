"""MedCLIPSeg: backbones, adapters, head and checkpoints."""
