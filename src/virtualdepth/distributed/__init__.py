"""P_W(G) of matrices that lie on several processes (level 1, below the optimizers)."""
