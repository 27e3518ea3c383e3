"""The backbones: DiffuTran, DiffuMamba, DiffuMamba-H and the two autoregressive baselines."""
