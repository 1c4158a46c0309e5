"""Laws of the simulator on random machines: strategies, prices, slow references, and how laws run."""
